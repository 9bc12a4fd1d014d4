"""RotaryEmbedding: the angles of each position as they are given, or as rows of tables by the numbers of positions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from graphpress.backends.tvm.kernels.gather_rows import GatherRows
from graphpress.backends.tvm.kernels.plane import Plane
from graphpress.backends.tvm.kernels.rotary import RotaryKernel
from graphpress.backends.tvm.kernels.stages import Destination
from graphpress.backends.tvm.kernels.view import StridedView
from graphpress.backends.tvm.lowering.context import Lowering, StoredValue, elements_of, shape_of
from graphpress.backends.tvm.lowering.layout import natural, view_of
from graphpress.backends.tvm.lowering.operands import floats_of, last, spread, steps_of
from graphpress.backends.tvm.lowering.refusal import refused
from graphpress.backends.tvm.lowering.rules.gather import row_numbers
from graphpress.backends.tvm.lowering.rules.rule import Rule
from graphpress.backends.tvm.program import Buffer, Constant, Source
from graphpress.ir import Node, NodeView, input_of

COSINES, SINES, POSITIONS = 1, 2, 3


def _rotary(node: Node, lowering: Lowering) -> None:
    view = NodeView.of(node)
    shape = shape_of(node.outputs[0])
    heads = shape[1] if len(shape) == 4 else view.integer("num_heads", 0)
    if heads <= 0:
        raise refused(node, "it does not say how many heads there are")
    batch, length = shape[0], shape[2] if len(shape) == 4 else shape[1]
    width = shape[3] if len(shape) == 4 else shape[2] // heads
    turned = view.integer("rotary_embedding_dim", 0) or width
    angles = _angles(node, lowering, (batch, length, heads, turned // 2))
    source = floats_of(lowering, node, 0, last(lowering.read(node, 0).order, len(shape) - 1))
    target = lowering.room(node.outputs[0], None, source.order)
    kernel = RotaryKernel(
        (batch, length, heads, width),
        turned,
        _by_position(source, width),
        _by_position(target, width),
        angles[COSINES][1],
        angles[SINES][1],
        view.flag("interleaved"),
    )
    operands = {
        "source": source.memory,
        "cosine": angles[COSINES][0],
        "sine": angles[SINES][0],
        "result": target.memory,
    }
    lowering.emit(kernel, operands, [node.name or ""])


def _by_position(source: StoredValue, width: int) -> StridedView:
    """Batch, length, heads and width of a value in either layout."""
    view = steps_of(source)
    if len(source.shape) == 4:
        return replace(view, steps=tuple(view.steps[axis] for axis in (0, 2, 1, 3)))
    batch, length, elements = view.steps
    return replace(view, steps=(batch, length, width * elements, elements))


def _angles(node: Node, lowering: Lowering, shape: tuple[int, int, int, int]) -> dict[int, tuple[Source, StridedView]]:
    """Cosines and sines, for all heads alike.

    Raises:
        UnsupportedError: rows are to be taken of tables that are computed at run time.
    """
    result: dict[int, tuple[Source, StridedView]] = {}
    for index in (COSINES, SINES):
        if input_of(node, POSITIONS) is not None:
            memory, view = _rows(node, lowering, index, shape)
        else:
            source = floats_of(lowering, node, index, natural(3))
            memory, view = source.memory, spread(source, (shape[0], shape[1], shape[3]))
        result[index] = memory, replace(view, steps=(*view.steps[:2], 0, view.steps[2]))
    return result


def _rows(node: Node, lowering: Lowering, index: int, shape: tuple[int, int, int, int]) -> tuple[Source, StridedView]:
    """The rows of a table that belong to the positions."""
    table = floats_of(lowering, node, index, natural(2))
    if not table.plane.is_dense or (lowering.batch_axes is not None and not isinstance(table.memory, Constant)):
        raise refused(node, "each sample has tables of its own, or their rows lie apart")
    positions = input_of(node, POSITIONS)
    assert positions is not None
    batch, length, _, pairs = shape
    numbers = row_numbers(node, lowering, positions)
    plane = Plane(pairs, batch, length, pairs)
    kernel = GatherRows(table.shape[0], Destination(plane), index=elements_of(positions))
    target = Buffer(plane)
    lowering.emit(kernel, {"table": table.memory, "indices": numbers.memory, "result": target})
    return target, view_of((batch, length, pairs), natural(3), plane)


RULES: Mapping[str, Rule] = MappingProxyType({"RotaryEmbedding": _rotary})
"""Rules by operator."""
