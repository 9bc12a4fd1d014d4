"""Products whose range is found at run time, in the words that ONNX Runtime has a kernel for.

    DequantizeLinear(DynamicQuantizeLinear(x)) · DequantizeLinear(q, s)
        =   Cast(MatMulInteger(q_x, q, z_x)) ∘ (s_x s)

The same integers, added exactly; ONNX Runtime fuses the right side with the bias behind it. Of the left side it takes
most for floats: a matrix product with a bias becomes a Gemm before anything looks at the quantizers around it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from graphpress.ir import (
    DataType,
    Editor,
    Model,
    Node,
    TensorType,
    Value,
    float_attribute,
    graphs,
    input_of,
    int_attribute,
    ints_attribute,
    is_constant,
    is_standard,
    producer,
    rank_of,
)
from graphpress.ir.encoding import AffineEncoding
from graphpress.ir.qdq import encoding_of_node


def spell_dynamic_products(model: Model) -> int:
    """Let products of dynamically quantized data and integer weights multiply the integers, in place.

    Args:
        model: with its quantization written in Q/DQ nodes.

    Returns:
        How many there were.
    """
    edit, count = Editor(model), 0
    for graph in graphs(model):
        for node in [node for node in graph if is_standard(node, "MatMul", "Gemm")]:
            product = _match(node)
            if product is not None:
                _spell(node, product, edit)
                count += 1
    return count


class _Product(NamedTuple):
    quantize: Node
    codes: Value
    order: tuple[int, ...]
    scale: np.ndarray


def _match(node: Node) -> _Product | None:
    quantize = dynamic_quantizer(node)
    if quantize is None or not _is_plain(node):
        return None
    turn = producer(input_of(node, 1), "Transpose")
    decoder = producer(input_of(node, 1) if turn is None else turn.inputs[0], "DequantizeLinear")
    codes = None if decoder is None else decoder.inputs[0]
    rank = rank_of(codes)
    if decoder is None or codes is None or rank is None or not is_constant(codes):
        return None
    encoding, order = encoding_of_node(decoder), _order(node, turn, rank)
    if not isinstance(encoding, AffineEncoding) or encoding.block or np.any(encoding.zero_point):
        return None
    return _Product(quantize, codes, order, encoding.scale) if encoding.axis in (None, order[-1]) else None


def dynamic_quantizer(node: Node) -> Node | None:
    """What finds the range of the data that the node reads, and nothing else quantized."""
    decoded = producer(input_of(node, 0), "DequantizeLinear")
    quantize = None if decoded is None else producer(decoded.inputs[0], "DynamicQuantizeLinear")
    same = decoded is not None and quantize is not None and list(decoded.inputs) == list(quantize.outputs)
    return quantize if same else None


def _is_plain(node: Node) -> bool:
    """Whether it multiplies, and adds, without factors, and reads its data as it is."""
    unit = all(float_attribute(node, name, 1.0) == 1.0 for name in ("alpha", "beta"))
    return node.op_type == "MatMul" or (unit and not int_attribute(node, "transA", 0))


def _order(node: Node, turn: Node | None, rank: int) -> tuple[int, ...]:
    """The axis of the codes that becomes each axis of what is multiplied."""
    order = tuple(range(rank)) if turn is None else (ints_attribute(turn, "perm") or tuple(range(rank))[::-1])
    return order[::-1] if int_attribute(node, "transB", 0) else order


def _spell(node: Node, product: _Product, edit: Editor) -> None:
    name, result = node.name or node.op_type, node.outputs[0]
    data, scale, zero_point = product.quantize.outputs
    operands = [data, _as_multiplied(node, product, edit), zero_point]
    multiplied = edit.add_node("MatMulInteger", operands, before=node, name=name)
    integers = multiplied.outputs[0]
    integers.shape, integers.type = result.shape, TensorType(DataType.INT32)
    cast = edit.add_node("Cast", [integers], {"to": int(DataType.FLOAT)}, before=node, name=f"{name}_cast")
    weight_scale = edit.add_constant_for(node, product.scale, f"{name}_scale")
    scales = edit.add_node("Mul", [scale, weight_scale], before=node, name=f"{name}_scales")
    real = edit.add_node("Mul", [cast.outputs[0], scales.outputs[0]], before=node, name=f"{name}_scaled").outputs[0]
    bias = input_of(node, 2)
    if bias is not None:
        real = edit.add_node("Add", [real, bias], before=node, name=f"{name}_bias").outputs[0]
    edit.copy_type(result, real)
    edit.replace(result, real)
    remove_with_decoders(node, edit)
    multiplied.name = node.name  # by which it is asked what became of the product


def remove_with_decoders(node: Node, edit: Editor) -> None:
    """Remove a node whose results others compute now, with what quantized and decoded its inputs for it alone."""
    decoders = dict.fromkeys(producer(value) for value in node.inputs)
    edit.remove(node)
    for decoder in decoders:
        edit.remove_unread(decoder, "DequantizeLinear", "DynamicQuantizeLinear", "Transpose")


def _as_multiplied(node: Node, product: _Product, edit: Editor) -> Value:
    """The codes as ``[..., inputs, outputs]``; ONNX Runtime turns a constant once, while loading."""
    if product.order == tuple(range(len(product.order))):
        return product.codes
    turned = edit.add_node("Transpose", [product.codes], {"perm": list(product.order)}, before=node)
    edit.copy_type(product.codes, turned.outputs[0])
    return turned.outputs[0]
