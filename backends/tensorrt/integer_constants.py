"""Constants in int8 that no DequantizeLinear reads: TensorRT takes such integers for quantized floats alone.

    Cast(move(q)) = Cast(move(DequantizeLinear(q, 1)))        move: Gather, Transpose, …, which move or select elements

A float holds these integers exactly, and they stay stored as they are. Where anything else reads them ahead of a Cast,
there is no such form.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from graphpress.ir import DataType, Editor, Graph, Model, Node, TensorType, Value, graphs, is_standard
from graphpress.ir.encoding import AffineEncoding, EncodedTensor, set_encoding
from graphpress.ops import lookup

_GRIDS = ("DequantizeLinear", "QuantizeLinear")
"""What reads integers as codes, and as zero-points."""

_UNIT = AffineEncoding("int8", np.array(1, np.float32), imported=True)


def dequantize_constants(model: Model) -> int:
    """Let floats stand for constants in int8 as far as a Cast, in place; quantization stands in encodings.

    Returns:
        How many constants there were; those that have no such form stay.
    """
    edit, count = Editor(model), 0
    for value in list(integer_constants(model)):
        if next(obstacles(value), None) is None:
            _dequantize(value, edit)
            count += 1
    return count


def integer_constants(model: Model) -> Iterator[Value]:
    """Constants in int8 with another reader than quantizers and dequantizers."""
    for graph in graphs(model):
        for value in graph.initializers.values() if isinstance(graph, Graph) else ():
            if value.dtype == DataType.INT8 and not value.is_graph_input() and any(True for _ in _other_uses(value)):
                yield value


def _other_uses(value: Value) -> Iterator[tuple[Node, int]]:
    return ((use.node, use.idx) for use in value.uses() if not is_standard(use.node, *_GRIDS))


def obstacles(value: Value) -> Iterator[Node]:
    """The nodes that read the value, moved or not, otherwise than to cast it."""
    for node, index in _other_uses(value):
        if is_standard(node, "Cast"):
            continue
        if index or not _moves(node) or any(output.is_graph_output() for output in node.outputs):
            yield node
        else:
            for output in node.outputs:
                yield from obstacles(output)


def _moves(node: Node) -> bool:
    """Whether the node moves or selects elements of its first input, and reads no other data."""
    spec = lookup(node.op_type) if is_standard(node) else None
    is_alone = all(value is None or value.dtype != DataType.INT8 for value in node.inputs[1:])
    return spec is not None and spec.quantization.moves_data and is_alone


def _dequantize(value: Value, edit: Editor) -> None:
    assert value.const_value is not None
    uses = list(_other_uses(value))
    decoded = EncodedTensor(value.const_value, _UNIT, DataType.FLOAT)
    twin = edit.add_constant_for(uses[0][0], decoded, f"{value.name}_float")
    set_encoding(twin, _UNIT)
    for node, index in uses:
        _retype(node)
        edit.set_input(node, index, twin)
    edit.drop_if_unused(value)


def _retype(node: Node) -> None:
    """Let everything that moves the integers on move floats."""
    if is_standard(node, "Cast"):
        return
    for output in node.outputs:
        output.type = TensorType(DataType.FLOAT)
        for reader, _ in _other_uses(output):
            _retype(reader)
