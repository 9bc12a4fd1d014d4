"""Operators whose results depend on shapes or on nothing: constants, ranges, shapes, random numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphpress.ir import DataType, Shape, TensorType
from graphpress.ops.dependency import Axes
from graphpress.ops.rules import moving, opaque, per_output, same, source, view
from graphpress.ops.shrink import Shrink
from graphpress.ops.spec import Flow, OpSpec

_RANDOM = ("RandomNormal", "RandomUniform")
_RANDOM_LIKE = ("RandomNormalLike", "RandomUniformLike", "Bernoulli")


def entries() -> dict[str, OpSpec]:
    """The operators of this family."""
    return {
        "Constant": OpSpec(source, view),
        "Shape": OpSpec(source, view, shrink=_sizes_as_before),
        "Size": OpSpec(opaque, view),
        "ConstantOfShape": OpSpec(_filled, moving, shrink=_smaller_target),
        "Range": OpSpec(source, moving),
        "EyeLike": OpSpec(opaque, moving),
        **{name: OpSpec(source, per_output(), foldable=False) for name in _RANDOM},
        **{name: OpSpec(same, per_output(), foldable=False) for name in _RANDOM_LIKE},
        "Multinomial": OpSpec(opaque, per_output(), foldable=False),
    }


def _filled(flow: Flow) -> Sequence[Axes | None]:
    """All positions are alike, so that any may go, along the axes whose size is the same in every run."""
    sizes = flow.node.output_shape()
    fixed = flow.fixed(sizes, "a computed size")
    axes = zip(sizes, flow.declared(), fixed, strict=True)
    return [tuple(flow.classes.fresh(size) if declared else pinned for size, declared, pinned in axes)]


def _smaller_target(shrink: Shrink) -> None:
    shrink.set_sizes("shape", 0, shrink.lost())


def _sizes_as_before(shrink: Shrink) -> None:
    """What computes with sizes goes on seeing those of the whole tensor: a scale by the width of a head, for one.

    Where such a size ends up as a target shape, the operator that reads it has a rule of its own.
    """
    rank = len(shrink.node.input_shape(0))
    start, end = (min(max(bound + rank * (bound < 0), 0), rank) for bound in _bounds(shrink, rank))
    gone = [axis for axis in range(start, end) if not shrink.read(0, axis).all()]
    if not gone:
        return
    chosen, numbers = np.zeros(end - start, bool), np.zeros(end - start, np.int64)
    for axis in gone:
        chosen[axis - start], numbers[axis - start] = True, shrink.node.input_shape(0)[axis]
    node, sizes = shrink.node.node, shrink.node.outputs[0]
    stem = f"{node.name or 'Shape'}_before"
    uses = [(use.node, use.idx) for use in sizes.uses()]
    operands = [shrink.edit.add_constant_for(node, array, stem) for array in (chosen, numbers)]
    where = shrink.edit.add_node("Where", [*operands, sizes], after=node, name=stem)
    where.outputs[0].type, where.outputs[0].shape = TensorType(DataType.INT64), Shape([end - start])
    for reader, index in uses:
        shrink.edit.set_input(reader, index, where.outputs[0])
    if sizes.is_graph_output():
        shrink.edit.replace_output(sizes, where.outputs[0])


def _bounds(shrink: Shrink, rank: int) -> tuple[int, int]:
    return shrink.node.integer("start", 0), shrink.node.integer("end", rank)
