"""Reductions, running sums and orderings along axes.

Axes: what is reduced, summed or ordered stays whole (a sum over fewer channels is another number); the rest passes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from graphpress.ir import NodeView
from graphpress.ops.dependency import Axes
from graphpress.ops.rules import per_input, pin_inputs, whole_axes
from graphpress.ops.semantics.axes import reduced_axes
from graphpress.ops.spec import MOVES_FIRST, OPAQUE, Flow, OpSpec, Quantization, Work

_REDUCTIONS = {
    "ReduceL1": 2, "ReduceL2": 2, "ReduceLogSum": 1, "ReduceLogSumExp": 9, "ReduceMax": 1, "ReduceMean": 1,
    "ReduceMin": 1, "ReduceProd": 1, "ReduceSum": 1, "ReduceSumSquare": 2,
}  # fmt: skip
_SELECTING = ("ReduceMax", "ReduceMin")


def entries() -> dict[str, OpSpec]:
    """The operators of this family."""
    return {
        **{name: OpSpec(_reduce, per_input(cost), _encoding(name)) for name, cost in _REDUCTIONS.items()},
        "ArgMax": OpSpec(_arg_reduce, per_input()),
        "ArgMin": OpSpec(_arg_reduce, per_input()),
        "CumSum": OpSpec(_cumulative, per_input()),
        "CumProd": OpSpec(_cumulative, per_input()),
        "TopK": OpSpec(_top_k, _sorting),
    }


def _encoding(name: str) -> Quantization:
    return MOVES_FIRST if name in _SELECTING else OPAQUE


def _reduce(flow: Flow) -> Sequence[Axes | None]:
    data = flow.of(0)
    axes = _reduced(flow.node, len(data))
    if axes is None:
        whole_axes(flow, range(len(data)), "an axis that may be reduced")
        return [flow.fixed(flow.node.output_shape(), "an output")]
    if flow.node.op_type == "ReduceMean":  # how LayerNormalization is written out
        for index in axes:
            flow.classes.pin_statistics(data[index], f"statistics of ReduceMean {flow.node.name}".rstrip())
    else:
        whole_axes(flow, axes, "a reduced axis")
    return [_without(data, axes, bool(flow.node.integer("keepdims", 1)))]


def _reduced(node: NodeView, rank: int) -> list[int] | None:
    """Reduced axes counted from the front; None when they are computed at run time."""
    axes = node.integers("axes", 1)
    return None if axes is None and node.has(1) else reduced_axes(node, axes, rank)


def _arg_reduce(flow: Flow) -> Sequence[Axes | None]:
    data = flow.of(0)
    axis = flow.node.axis(0, len(data))
    whole_axes(flow, [axis], "an indexed axis")
    return [_without(data, [axis], bool(flow.node.integer("keepdims", 1)))]


def _without(data: Axes, axes: Sequence[int], keepdims: bool) -> Axes:
    gone = set(axes)
    single = np.zeros(1, np.int64)
    return tuple(single if index in gone else axis for index, axis in enumerate(data) if keepdims or index not in gone)


def _cumulative(flow: Flow) -> Sequence[Axes | None]:
    data, axis = flow.of(0), flow.node.integers("axis", 1)
    axes = range(len(data)) if axis is None else [axis[0] % len(data)]
    return [whole_axes(flow, axes, "a cumulated axis")]


def _top_k(flow: Flow) -> Sequence[Axes | None]:
    data = flow.of(0)
    axis = flow.node.axis(-1, len(data))
    whole_axes(flow, [axis], "a sorted axis")
    pin_inputs(flow, [1], "a count")
    kept = flow.fixed([flow.node.output_shape()[axis]], "a sorted axis")
    return [(*data[:axis], *kept, *data[axis + 1 :])] * len(flow.node.output_shapes)


def _sorting(node: NodeView) -> Work:
    shape = node.input_shape(0)
    length = shape[node.axis(-1, len(shape))] if shape else 1
    return per_input(max(1, math.ceil(math.log2(max(length, 2)))))(node)
