"""What a legalised model says of each node: which operands stand as narrow integers, and what may keep it in float.

An operand is narrow when it comes out of a dequantiser, directly or through nodes that only move values. A product

    Σₖ (sₓ·qₓ[k]) (s_w·q_w[k]) = sₓ·s_w · Σₖ qₓ[k]·q_w[k]

is one of integers only while no scale depends on ``k``: the scales of activations must be one a tensor, those of
weights may differ along output channels alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from graphpress.analysis.shapes import infer_shapes
from graphpress.backends.tensorrt.layers import Nature
from graphpress.ir import (
    Model,
    Node,
    Refusal,
    Value,
    constant,
    graphs,
    int_attribute,
    is_standard,
    label,
    producer,
    rank_of,
    readers,
)
from graphpress.ops import Role, lookup

_PARTS = ("Gather", "Slice", "Split")
_HEADS = (*_PARTS, "Add", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
"""What stands between a product and the heads that its result is taken apart into."""

Kind = Literal["product", "mover", "other"]


def natures_of(model: Model) -> dict[str, Nature]:
    """The nature of every node by the name that TensorRT calls it; fills in types that the model leaves open."""
    infer_shapes(model)
    return {name: _nature(node) for name, node in nodes_by_name(model).items()}


def nodes_by_name(model: Model) -> dict[str, Node]:
    """Nodes of all graphs by the name that TensorRT calls them: a nameless one is called after its first output."""
    found = (node for graph in graphs(model) for node in graph if node.outputs)
    return {node.name or f"node_of_{node.outputs[0].name}": node for node in found}


def obstacle(node: Node) -> Refusal | None:
    """Why the node cannot compute in integers, as far as the model shows; None where nothing stands in the way."""
    if _kind(node) != "product":
        return None
    if is_standard(node, "ConvTranspose"):
        why = "TensorRT has no integer kernel for ConvTranspose"
        return Refusal.at(node, why, "leave it in float (--exclude), or resize and convolve instead")
    spec = lookup(node.op_type)
    weight = None if spec is None else spec.quantization.weight
    for index, value in _operands(node):
        role = "weights" if index == weight else "input"
        source = _dequantizer(value)
        if source is None:
            verb = "are" if role == "weights" else "is"
            fix = "quantise it too, or leave the node in float"
            return Refusal.at(node, f"its {role} {value.name!r} {verb} float", fix)
        if (axis := _scaled_axis(source)) is not None and axis != _free_axis(node, index):
            return Refusal.at(
                node,
                f"the scales of its {role} differ along axis {axis}, over which it sums: they cannot leave the sum",
                "one scale per output channel, or one a tensor",
            )
    return None


def cut(node: Node) -> Refusal | None:
    """Whether TensorRT loses the integers of a product because its result is taken apart; None where it does not.

    Where a matrix product goes to heads (its result is split, sliced or gathered from, and transposed), TensorRT cuts
    the weights instead, and dequantises them first if every channel has a scale of its own.
    """
    if not is_standard(node, "MatMul", "Gemm") or not any(
        (source := _dequantizer(value)) is not None and _scaled_axis(source) is not None for _, value in _operands(node)
    ):
        return None
    if (taken := _taken_apart(node)) is None:
        return None
    return Refusal.at(
        node,
        f"{label(taken)} takes its result apart into heads: TensorRT cuts the weights instead, dequantised",
        "one scale for all of its weights, or one product for each part",
    )


def _taken_apart(node: Node) -> Node | None:
    """The first node that takes a part of the result, if parts of it are transposed as well."""
    reached, waiting = [node], [node]
    while waiting:
        for reader in (reader for value in waiting.pop().outputs for reader in readers(value)):
            if reader not in reached and is_standard(reader, *_HEADS):
                reached.append(reader)
                waiting.append(reader)
    transposed = any(is_standard(one, "Transpose") for one in reached)
    return next((one for one in reached if transposed and is_standard(one, *_PARTS)), None)


def _nature(node: Node) -> Nature:
    kind = _kind(node)
    operands = tuple(_narrow_type(value) for _, value in _operands(node))
    dtype = node.outputs[0].dtype
    floats = "" if dtype is None or not dtype.is_floating_point() else _word(dtype.name)
    return Nature(kind, operands, floats)


def _kind(node: Node) -> Kind:
    spec = lookup(node.op_type) if is_standard(node) else None
    role = Role.OPAQUE if spec is None else spec.quantization.role
    return {Role.ANCHOR: "product", Role.MOVES_DATA: "mover"}.get(role, "other")  # type: ignore[return-value]


def _operands(node: Node) -> Iterator[tuple[int, Value]]:
    """Inputs that it computes with; the bias of a product is added afterwards."""
    spec = lookup(node.op_type) if is_standard(node) else None
    bias = None if spec is None else spec.quantization.bias
    for index, value in enumerate(node.inputs):
        if value is not None and index != bias and (value.dtype is None or value.dtype.is_floating_point()):
            yield index, value


def _dequantizer(value: Value | None) -> Node | None:
    """The dequantiser whose values these are, seen through nodes that only move them or change their float type."""
    node = producer(value)
    while node is not None and not is_standard(node, "DequantizeLinear"):
        passes = node.inputs and (_kind(node) == "mover" or is_standard(node, "Cast"))
        node = producer(node.inputs[0]) if passes else None
    return node


def _narrow_type(value: Value) -> str:
    source = _dequantizer(value)
    integers = None if source is None else source.inputs[0]
    return "" if integers is None or integers.dtype is None else integers.dtype.name.lower()


def _scaled_axis(dequantize: Node) -> int | None:
    """The axis along which its scales differ; None for one scale."""
    scale = constant(dequantize.inputs[1])
    if scale is None or scale.size == 1:
        return None
    axis, rank = int_attribute(dequantize, "axis", 1), rank_of(dequantize.inputs[0])
    return axis if axis >= 0 or rank is None else axis + rank


def _free_axis(node: Node, index: int) -> int | None:
    """The axis of an operand that the product does not sum over and its result keeps."""
    spec = lookup(node.op_type)
    rank = rank_of(node.inputs[index])
    if spec is None or rank is None or index != spec.quantization.weight or spec.quantization.channel_axis is None:
        return None
    return spec.quantization.channel_axis(node, rank)


def _word(name: str) -> str:
    return {"float": "float32", "double": "float64"}.get(name.lower(), name.lower())
