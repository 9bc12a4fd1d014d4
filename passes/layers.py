"""Layers as passes that change weights see them: matrix and bias as they are delivered, and how to write new ones.

A weight that carries an encoding is seen rounded, and a new one is encoded anew on a grid of the same kind: each scale
grows or shrinks with the largest weight that it serves, whatever rule once chose it. A mask of zeros is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from graphpress.analysis.contraction import Contraction, contraction_of
from graphpress.ir import (
    Editor,
    Node,
    Refusal,
    Value,
    constant,
    has_one_use,
    input_of,
    is_standard,
    only_reader,
    readers,
)
from graphpress.ir.encoding import Quantized, compute_request, read_encoding, set_encoding
from graphpress.ir.quantized import dequantize_array, quantize_array, representable_like
from graphpress.ir.sparsity import Sparsity, fault_of, mask_of, set_sparsity, sparsity_of
from graphpress.observation.least_squares import Affine

_FLOATS = (np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64))
_ACCUMULATOR = 2.0**31


@dataclass(frozen=True)
class Layer:
    """A contraction whose constants may be changed.

    Args:
        contraction: the node.
        affine: its matrix as delivered (rounded where it is encoded) and its bias, in float64.
        mask: ``[blocks, features, outputs]``, true where a weight may differ from zero; None for everywhere.
        adder: the node that adds the bias, for a product without one of its own: its constant can take a shift.
        bias_dtype: what the bias of an integer layer is on the target, ``int32`` or a float type.
    """

    contraction: Contraction
    affine: Affine
    mask: np.ndarray | None = None
    adder: Node | None = None
    bias_dtype: str = "int32"

    @property
    def moves_bias(self) -> bool:
        """Whether a shift of the result has somewhere to go without a new node."""
        return self.contraction.bias is not None or self.adder is not None


@dataclass(frozen=True)
class Rewritten:
    """New constants of a layer, ready to be written.

    Args:
        layer: whose they are.
        affine: matrix and bias as they will be delivered.
        weight: in the shape and dtype of the model.
        encoding: of the weight.
    """

    layer: Layer
    affine: Affine
    weight: np.ndarray
    encoding: Quantized | None

    def write(self, edit: Editor, *, shifts: bool | None = None) -> None:
        """Put weight and bias into the model.

        Args:
            edit: of the model.
            shifts: write the bias too, with a new node where needed; when not given, if that takes none.
        """
        contraction = self.layer.contraction
        sparsity = sparsity_of(contraction.kernel)
        own = edit.own_constant(contraction.node, contraction.weight, self.weight)
        set_encoding(own, self.encoding)
        _keep_sparse(own, self.weight, sparsity)
        if self.layer.moves_bias if shifts is None else shifts:
            write_bias(edit, self.layer, self.affine.bias)


def read_layer(node: Node, bias_dtype: str = "int32") -> Layer | Refusal | None:
    """The node as a layer, why it cannot be changed, or None where it is no contraction with a constant weight.

    Args:
        node: any.
        bias_dtype: what the bias of an integer layer is on the target.
    """
    contraction = contraction_of(node)
    if contraction is None:
        return None
    weight = constant(contraction.kernel)
    if weight is None or weight.dtype not in _FLOATS:
        return Refusal.at(node, "its weight is not of a float type that least squares works in", "recover in float32")
    if not has_one_use(contraction.kernel):
        return Refusal.at(node, "its weight has another reader, which would see the change")
    if contraction.scale == 0.0:
        return Refusal.at(node, "it multiplies its weight by 0")
    bias = contraction.bias_rows()
    if bias is None:
        return Refusal.at(node, "its bias is not one constant a channel", "run fold_constants first")
    matrix = contraction.matrix(as_read(node, contraction.weight, weight)).astype(np.float64)
    mask = mask_of(contraction.kernel)
    return Layer(
        contraction,
        Affine(matrix, bias),
        None if mask is None else contraction.view(mask),
        adder_of(contraction) if contraction.bias is None else None,
        bias_dtype,
    )


def rewritten(layer: Layer, affine: Affine) -> Rewritten:
    """The layer with this matrix and bias, rounded to what the model can hold."""
    contraction = layer.contraction
    node, old = contraction.node, constant(contraction.kernel)
    assert old is not None
    weight = contraction.weight_of(affine.matrix).astype(old.dtype)
    encoding = read_encoding(node, contraction.weight)
    if encoding is not None:
        encoding = refit(encoding, old, weight)
    seen = weight if encoding is None else _round(weight, encoding)
    return Rewritten(layer, Affine(contraction.matrix(seen).astype(np.float64), affine.bias), weight, encoding)


def refit(encoding: Quantized, old: np.ndarray, new: np.ndarray) -> Quantized:
    """An encoding for new contents: each scale times the growth of the largest element that it serves."""
    growth = _largest(new, encoding) / np.maximum(_largest(old, encoding), np.finfo(np.float32).tiny)
    growth = np.where((growth > 0) & np.isfinite(growth), growth, 1.0)
    old_scale = np.array(encoding.scale)
    scale = representable_like(old_scale * growth, old_scale)
    return replace(encoding, scale=tuple(float(one) for one in scale), pinned=False)


def _largest(array: np.ndarray, encoding: Quantized) -> np.ndarray:
    if encoding.axis is None:
        return np.array([np.abs(array).max(initial=0.0)], np.float64)
    moved = np.abs(np.moveaxis(array, encoding.axis, 0)).astype(np.float64)
    if not encoding.block:
        largest: np.ndarray = moved.reshape(len(moved), -1).max(axis=1)
        return largest
    starts = np.arange(0, len(moved), encoding.block)
    blocks: np.ndarray = np.moveaxis(np.maximum.reduceat(moved, starts, axis=0), 0, encoding.axis)
    return blocks.reshape(-1)


def _round(array: np.ndarray, encoding: Quantized) -> np.ndarray:
    return dequantize_array(quantize_array(array, encoding), encoding, array.dtype)


def as_read(node: Node, index: int, array: np.ndarray) -> np.ndarray:
    """The array as the node reads its input there: rounded where that is encoded."""
    encoding = read_encoding(node, index)
    return array if encoding is None else _round(array, encoding)


def _keep_sparse(value: Value, array: np.ndarray, sparsity: Sparsity | None) -> None:
    if sparsity is not None and fault_of(array, sparsity) is None:
        set_sparsity(value, sparsity)


# -- biases ---------------------------------------------------------------------------------------------------


def adder_of(contraction: Contraction) -> Node | None:
    """The Add behind a product that adds one plain constant a channel to its result, and to nothing else."""
    result = contraction.result
    add = next(iter(readers(result)), None)
    if add is None or not is_standard(add, "Add") or not only_reader(result, add) or contraction.matrix_shape[0] > 1:
        return None
    index = constant_operand(add)
    if index is None or read_encoding(add, index) is not None:
        return None
    array = constant(add.inputs[index])
    assert array is not None
    outputs = contraction.matrix_shape[2]
    return add if array.size == outputs and array.shape[-1:] == (outputs,) and array.dtype in _FLOATS else None


def constant_operand(node: Node) -> int | None:
    """Which of the two operands of a node is constant; None for none or both."""
    found = [index for index, value in enumerate(node.inputs) if constant(value) is not None]
    return found[0] if len(found) == 1 else None


def write_bias(edit: Editor, layer: Layer, bias: np.ndarray) -> None:
    """Give the layer this bias (``[blocks, outputs]``), in a new input or a new Add where it has none."""
    contraction = layer.contraction
    node, weight = contraction.node, constant(contraction.kernel)
    assert weight is not None
    if contraction.bias is None:
        _shift_result(edit, layer, bias)
        return
    had = input_of(node, contraction.bias)
    if had is None and not np.any(bias):
        return
    encoding = accumulator_encoding(node, contraction.weight) if layer.bias_dtype == "int32" else None
    if encoding is not None and np.any(np.abs(bias).reshape(-1) >= np.array(encoding.scale) * _ACCUMULATOR):
        encoding = None
    array = bias.reshape(-1).astype(weight.dtype)
    own = edit.own_constant(node, contraction.bias, array, None if had is not None else f"{node.name or 'layer'}_bias")
    if node.op_type == "Gemm":
        edit.set_attributes(node, beta=None)
    set_encoding(own, encoding)


def _shift_result(edit: Editor, layer: Layer, bias: np.ndarray) -> None:
    """Add to the result of a product: through the constant that is added behind it, or with a new Add."""
    contraction, shift = layer.contraction, bias.reshape(-1)
    if not np.any(shift):
        return
    weight = constant(contraction.kernel)
    assert weight is not None
    if layer.adder is not None:
        index = constant_operand(layer.adder)
        assert index is not None
        array = constant(layer.adder.inputs[index])
        assert array is not None
        edit.own_constant(layer.adder, index, (array + shift.reshape(array.shape)).astype(array.dtype))
        return
    node = contraction.node
    value = edit.add_constant_for(node, shift.astype(weight.dtype), f"{node.name or node.op_type}_bias")
    result = node.outputs[0]
    places = [(use.node, use.idx) for use in result.uses()]
    add = edit.add_node("Add", [result, value], after=node, name=f"{node.name or node.op_type}_shift")
    edit.copy_type(result, add.outputs[0])
    for reader, place in places:
        edit.set_input(reader, place, add.outputs[0])
    if result.is_graph_output():
        edit.replace_output(result, add.outputs[0])


def accumulator_encoding(node: Node, weight: int) -> Quantized | None:
    """The grid of the bias of an integer layer, s_bias = s_input · s_weight; None for a layer that adds in float."""
    source, kernel = read_encoding(node, 0), read_encoding(node, weight)
    if source is None or kernel is None or source.axis is not None or kernel.block or compute_request(node) != "int8":
        return None
    scale = (np.float32(source.scale[0]) * np.array(kernel.scale, np.float32)).astype(np.float32)
    axis = 0 if len(scale) > 1 else None
    return Quantized("int32", tuple(float(one) for one in scale), (0,) * len(scale), axis, derived=True)
