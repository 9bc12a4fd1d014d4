"""Reading an image at given points or in given regions: channels pass, space is pinned."""

from __future__ import annotations

from collections.abc import Sequence

from graphpress.ops.dependency import Axes
from graphpress.ops.rules import channels_pass, per_output, pin_inputs
from graphpress.ops.spec import Flow, OpSpec


def entries() -> dict[str, OpSpec]:
    """The operators of this family."""
    return {
        "GridSample": OpSpec(channels_pass, per_output(8)),
        "RoiAlign": OpSpec(_regions, per_output(8)),
        "MaxRoiPool": OpSpec(_regions, per_output(8)),
    }


def _regions(flow: Flow) -> Sequence[Axes | None]:
    """One output per region: the batch is mixed, channels pass."""
    data, shape = flow.of(0), flow.node.output_shape()
    for axis in (data[0], *data[2:]):
        flow.pin(axis, "a pooled axis")
    pin_inputs(flow, range(1, len(flow.axes)), "an input")
    rest = flow.fixed((shape[0], *shape[2:]), "an output")
    return [(rest[0], data[1], *rest[1:])]
