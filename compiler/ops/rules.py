"""Axis and cost rules that several families share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from graphpress.ir import Node, NodeView
from graphpress.ops.dependency import Axes, Axis, DependencyClasses
from graphpress.ops.spec import CostRule, Flow, Quantization, Role, Work

TRANSCENDENTAL = 8
"""Operations that an exponential, logarithm, root or trigonometric function stands for."""

# -- cost -----------------------------------------------------------------------------------------------------


def view(node: NodeView) -> Work:
    """No arithmetic and no memory traffic."""
    return Work(moves=False)


def moving(node: NodeView) -> Work:
    """Memory traffic only."""
    return Work()


def per_output(operations: int = 1) -> CostRule:
    """So many operations per element of the first output."""
    return lambda node: Work(operations=operations * math.prod(node.output_shape()))


def per_input(operations: int = 1) -> CostRule:
    """So many operations per element of the first input."""
    return lambda node: Work(operations=operations * math.prod(node.input_shape(0)))


# -- axes -----------------------------------------------------------------------------------------------------


def same(flow: Flow) -> Sequence[Axes | None]:
    """Every output has the axes of the first input."""
    return [flow.of(0)] * len(flow.node.output_shapes)


def broadcast(flow: Flow) -> Sequence[Axes | None]:
    """Operands are aligned at the end; positions that meet are united."""
    operands = [flow.of(index) for index in range(len(flow.node.inputs)) if flow.node.has(index)]
    return [broadcast_axes(flow.classes, operands)] * len(flow.node.output_shapes)


def opaque(flow: Flow) -> Sequence[Axes | None]:
    """All that is read and written is pinned."""
    return pin_all(flow, "an input or output")


def source(flow: Flow) -> Sequence[Axes | None]:
    """Outputs do not depend on what the inputs hold, only on their shape or on nothing: pinned, inputs left free."""
    return [None if shape is None else flow.fixed(shape, "an output") for shape in flow.node.output_shapes]


def keep_size(flow: Flow) -> Sequence[Axes | None]:
    """Axes of the first input whose size stays pass; the others are pinned, before and after."""
    data, shape = flow.of(0), flow.node.output_shape()
    return [tuple(passing(flow, axis, size) for axis, size in zip(data, shape, strict=True))]


def whole_axes(flow: Flow, axes: Sequence[int], reason: str) -> Axes:
    """The axes of the first input, with some of them pinned."""
    data = flow.of(0)
    for index in axes:
        flow.pin(data[index], reason)
    return data


def channels_pass(flow: Flow) -> Sequence[Axes | None]:
    """Batch and channel pass; the spatial axes are pinned on both sides, other inputs are pinned whole."""
    data = flow.of(0)
    for axis in data[2:]:
        flow.pin(axis, "a spatial axis")
    pin_inputs(flow, range(1, len(flow.axes)), "an input")
    return [
        (*data[:2], *flow.fixed(shape[2:], "a spatial axis")) if shape is not None else None
        for shape in flow.node.output_shapes
    ]


def passing(flow: Flow, axis: Axis, size: int) -> Axis:
    """The axis itself if its size stays, else pinned on both sides."""
    if len(axis) == size:
        return axis
    flow.pin(axis, "a resized axis")
    return flow.fixed([size], "a resized axis")[0]


def pin_inputs(flow: Flow, indices: Sequence[int] | range, reason: str) -> None:
    """Pin every axis of these inputs, where present."""
    for index in indices:
        for axis in (flow.axes[index] if index < len(flow.axes) else None) or ():
            flow.pin(axis, reason)


def pin_all(flow: Flow, reason: str) -> Sequence[Axes | None]:
    """Pin all inputs; outputs are pinned too."""
    pin_inputs(flow, range(len(flow.axes)), reason)
    return [None if shape is None else flow.fixed(shape, reason) for shape in flow.node.output_shapes]


def broadcast_axes(classes: DependencyClasses, operands: Sequence[Axes]) -> Axes:
    """The axes of a broadcast, aligned at the end, with what meets united."""
    rank = max(len(axes) for axes in operands)
    return tuple(_meet(classes, [axes[back] for axes in operands if len(axes) >= -back]) for back in range(-rank, 0))


def unite_broadcast(classes: DependencyClasses, target: Axes, operand: Axes | None) -> None:
    """Unite a parameter with the trailing axes it is broadcast against."""
    if operand is not None:
        broadcast_axes(classes, [target, operand])


def unite_axis(classes: DependencyClasses, axis: Axis, *parameters: Axes | None) -> None:
    """Unite one-dimensional parameters with the axis they belong to; those of one element serve every position."""
    for parameter in parameters:
        if parameter is not None and len(parameter) == 1 and len(parameter[0]) == len(axis):
            classes.unite(axis, parameter[0])


def _meet(classes: DependencyClasses, axes: Sequence[Axis]) -> Axis:
    wide = [axis for axis in axes if len(axis) != 1]
    for other in wide[1:]:
        classes.unite(wide[0], other)
    return wide[0] if wide else np.zeros(1, np.int64)


def weighted(weight: int, bias: int | None, channel_axis: Callable[[Node, int], int]) -> Quantization:
    """The quantization of an operator that multiplies by weights, from the indices of its weight and bias."""
    return Quantization(Role.COMPUTE, weight, bias, channel_axis=channel_axis)


def given_axes(flow: Flow, bias: int | None, others: Sequence[int] = ()) -> list[Axes]:
    """The axes of a bias and of other inputs, those that are given."""
    indices = [*others] if bias is None else [bias, *others]
    given = (flow.axes[index] if index < len(flow.axes) else None for index in indices)
    return [axes for axes in given if axes is not None]
