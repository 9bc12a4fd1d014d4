"""Normalizations.

Axes over which statistics are taken stay whole: with fewer channels the mean is another one (``DependencyClasses`` can
waive that). Statistics per channel or per group of channels do not tie channels to each other, or only within a group.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphpress.ops.dependency import Axes
from graphpress.ops.rules import per_input, per_output, pin_inputs, same, unite_axis, unite_broadcast
from graphpress.ops.shrink import Shrink, count_blocks
from graphpress.ops.spec import Flow, OpSpec

_NORMALIZATION = 6
_EXPONENTIAL = 10


def entries() -> dict[str, OpSpec]:
    """The operators of this family."""
    return {
        "BatchNormalization": OpSpec(_batch_norm, per_output(2)),
        "GroupNormalization": OpSpec(_group_norm, per_input(_NORMALIZATION), shrink=_fewer_groups),
        "InstanceNormalization": OpSpec(_instance_norm, per_input(_NORMALIZATION)),
        "LRN": OpSpec(_across_channels, per_input(_EXPONENTIAL)),
        "LayerNormalization": OpSpec(_layer_norm, per_input(_NORMALIZATION)),
        "LpNormalization": OpSpec(_lp_norm, per_input(3)),
        "MeanVarianceNormalization": OpSpec(_mean_variance, per_input(_NORMALIZATION)),
        "RMSNormalization": OpSpec(_layer_norm, per_input(4)),
    }


def _layer_norm(flow: Flow) -> Sequence[Axes | None]:
    """Scale and bias are aligned at the end; mean and inverse deviation have ones where statistics were taken."""
    data = flow.of(0)
    for index in range(1, len(flow.node.inputs)):
        unite_broadcast(flow.classes, data, flow.of(index) if flow.node.has(index) else None)
    axis = flow.node.axis(-1, len(data))
    _statistics(flow, data[axis:])
    taken = data[:axis] + tuple(flow.classes.fresh(1) for _ in data[axis:])
    return [data, *[taken] * (len(flow.node.output_shapes) - 1)]


def _instance_norm(flow: Flow) -> Sequence[Axes | None]:
    data = flow.of(0)
    unite_axis(flow.classes, data[1], flow.of(1), flow.of(2))
    for axis in data[2:]:
        flow.pin(axis, "the axis that is normalized")
    return [data]


def _group_norm(flow: Flow) -> Sequence[Axes | None]:
    """Whole groups live or die; scale and bias hold one number per channel, or (operator set 18) per group."""
    data = flow.of(0)
    groups = flow.node.integer("num_groups", 1)
    table = data[1].reshape(groups, -1)
    flow.classes.unite(data[1], table[:, 0].repeat(table.shape[1]))
    for parameter in (flow.of(1)[0], flow.of(2)[0]):
        flow.classes.unite(parameter, data[1] if len(parameter) == len(data[1]) else table[:, 0])
    for axis in data[2:]:
        flow.pin(axis, "the axis that is normalized")
    if groups == 1:
        _statistics(flow, data[1:2])
    return [data]


def _fewer_groups(shrink: Shrink) -> None:
    groups = shrink.node.integer("num_groups", 1)
    shrink.set_attributes(num_groups=count_blocks(shrink.read(0, 1), groups))


def _across_channels(flow: Flow) -> Sequence[Axes | None]:
    _statistics(flow, flow.of(0)[1:2])
    return same(flow)


def _lp_norm(flow: Flow) -> Sequence[Axes | None]:
    data = flow.of(0)
    axis = flow.node.axis(-1, len(data))
    _statistics(flow, data[axis : axis + 1])
    return [data]


def _mean_variance(flow: Flow) -> Sequence[Axes | None]:
    data = flow.of(0)
    for axis in flow.node.integers("axes") or (0, 2, 3):
        flow.pin(data[axis], "the axis that is normalized")
    pin_inputs(flow, range(1, len(flow.axes)), "an input")
    return [data]


def _statistics(flow: Flow, axes: Axes) -> None:
    for axis in axes:
        flow.classes.pin_statistics(axis, f"statistics of {flow.node.op_type} {flow.node.name}".rstrip())


def _batch_norm(flow: Flow) -> Sequence[Axes | None]:
    """The four parameters belong to axis 1; statistics written in training mode do too."""
    data = flow.of(0)
    channels = data[1] if len(data) > 1 else data[0]
    for parameter in flow.axes[1:5]:
        unite_broadcast(flow.classes, (channels,), parameter)
    return [data, *[(channels,)] * (len(flow.node.output_shapes) - 1)]
