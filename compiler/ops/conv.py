"""Convolutions, also those on integers.

Axes: the two sides of a contraction are united; the axis of output channels is that of the weight. A grouped
convolution splits both channel axes by group, which gives a product constraint. Cost: multiply-accumulates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from graphpress.ir import Node, NodeView
from graphpress.ops.dependency import Axes, Axis
from graphpress.ops.rules import given_axes, pin_inputs, unite_axis, weighted
from graphpress.ops.shrink import Shrink, count_blocks
from graphpress.ops.spec import AxesRule, CostRule, Flow, OpSpec, Work


def entries() -> dict[str, OpSpec]:
    """The operators of this family."""
    return {
        "Conv": OpSpec(_conv(1, 2), _conv_cost(1, 2), weighted(1, 2, _first), shrink=_fewer_groups),
        "ConvInteger": OpSpec(_conv(1, None), _conv_cost(1, None), weighted(1, None, _first), shrink=_fewer_groups),
        "ConvTranspose": OpSpec(_conv_transpose, _conv_transpose_cost, weighted(1, 2, _second), shrink=_fewer_groups),
        "DeformConv": OpSpec(_conv(1, 3), _conv_cost(1, 3), weighted(1, 3, _first), shrink=_fewer_groups),
        "QLinearConv": OpSpec(_conv(3, 8), _conv_cost(3, 8), weighted(3, 8, _first), shrink=_fewer_groups),
    }


def _first(node: Node, rank: int) -> int:
    return 0


def _second(node: Node, rank: int) -> int:
    return 1


def _conv(weight: int, bias: int | None) -> AxesRule:
    def rule(flow: Flow) -> Sequence[Axes | None]:
        data, kernel = flow.of(0), flow.of(weight)
        _join_groups(flow, data[1], kernel)
        unite_axis(flow.classes, kernel[0], *given_axes(flow, bias, _scales_of(flow, weight)))
        return [(data[0], kernel[0], *_spatial(flow, data, kernel))]

    return rule


def _join_groups(flow: Flow, channels: Axis, kernel: Axes) -> None:
    """Channels are (group, index); so are the kernel's output channels, and its axis 1 is the index."""
    groups = flow.node.integer("group", 1)
    if groups == 1:
        flow.classes.unite(channels, kernel[1])
        return
    group, index = flow.classes.split(channels, groups, len(kernel[1]))
    out_group, _ = flow.classes.split(kernel[0], groups, len(kernel[0]) // groups)
    flow.classes.unite(group, out_group)
    flow.classes.unite(index, kernel[1])


def _conv_transpose(flow: Flow) -> Sequence[Axes | None]:
    """The kernel is [inputs, outputs per group, ...]."""
    data, kernel = flow.of(0), flow.of(1)
    groups = flow.node.integer("group", 1)
    flow.classes.unite(data[1], kernel[0])
    out = kernel[1]
    if groups > 1:
        group, _ = flow.classes.split(kernel[0], groups, len(kernel[0]) // groups)
        out = flow.classes.merge(group, kernel[1])
    unite_axis(flow.classes, out, *given_axes(flow, 2))
    return [(data[0], out, *_spatial(flow, data, kernel))]


def _fewer_groups(shrink: Shrink) -> None:
    """As many groups as still have an input channel."""
    groups = shrink.node.integer("group", 1)
    if groups > 1:
        shrink.set_attributes(group=count_blocks(shrink.read(0, 1), groups))


def _spatial(flow: Flow, data: Axes, kernel: Axes) -> Axes:
    for axis in (*data[2:], *kernel[2:]):
        flow.pin(axis, "a spatial axis")
    if flow.node.op_type == "DeformConv":
        pin_inputs(flow, (2, 4), "an offset or mask")
        if flow.node.integer("offset_group", 1) > 1:
            flow.pin(data[1], "a run of channels with one offset")
    return flow.fixed(flow.node.output_shape()[2:], "a spatial axis")


def _scales_of(flow: Flow, weight: int) -> Sequence[int]:
    """Per-channel scale and zero-point of an integer kernel."""
    return {"QLinearConv": (4, 5), "ConvInteger": (3,)}.get(flow.node.op_type, ())


def _conv_cost(weight: int, bias: int | None) -> CostRule:
    def rule(node: NodeView) -> Work:
        out, kernel = math.prod(node.output_shape()), node.input_shape(weight)
        return Work(out * math.prod(kernel[1:]), out if bias is not None and node.has(bias) else 0)

    return rule


def _conv_transpose_cost(node: NodeView) -> Work:
    macs = math.prod(node.input_shape(0)) * math.prod(node.input_shape(1)[1:])
    return Work(macs, math.prod(node.output_shape()) if node.has(2) else 0)
