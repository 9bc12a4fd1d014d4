"""Pooling and resampling: batch and channels pass, space is frozen."""

from __future__ import annotations

import math
from collections.abc import Sequence

from graphpress.ops.atoms import Axes
from graphpress.ops.rules import channels_pass, freeze_inputs, keep_size, opaque, per_input, per_output
from graphpress.ops.shrink import Shrink
from graphpress.ops.spec import MOVES_FIRST, Call, Flow, OpSpec, Work

_SIZES = 3
"""Input of Resize that holds target sizes."""


def entries() -> list[OpSpec]:
    """The operators of this family."""
    return [
        OpSpec("MaxPool", _max_pool, _window, MOVES_FIRST),
        OpSpec("AveragePool", channels_pass, _window),
        OpSpec("LpPool", channels_pass, _window),
        OpSpec("GlobalAveragePool", channels_pass, per_input()),
        OpSpec("GlobalMaxPool", channels_pass, per_input(), MOVES_FIRST),
        OpSpec("GlobalLpPool", channels_pass, per_input(2)),
        OpSpec("MaxUnpool", opaque, per_output()),
        OpSpec("Resize", _resize, per_output(4), MOVES_FIRST, shrink=_smaller_sizes),  # interpolates
        OpSpec("Upsample", _resize, per_output(4)),
        OpSpec("GridSample", channels_pass, per_output(8)),
        OpSpec("RoiAlign", _regions, per_output(8)),
        OpSpec("MaxRoiPool", _regions, per_output(8)),
    ]


def _window(call: Call) -> Work:
    return Work(operations=math.prod(call.output()) * math.prod(call.integers("kernel_shape") or ()))


def _max_pool(flow: Flow) -> Sequence[Axes | None]:
    """Indices, when they are asked for, count through the whole tensor: everything stays."""
    return channels_pass(flow) if len(flow.outputs) == 1 else opaque(flow)


def _resize(flow: Flow) -> Sequence[Axes | None]:
    freeze_inputs(flow, range(1, len(flow.axes)), "an input")
    return keep_size(flow)


def _smaller_sizes(shrink: Shrink) -> None:
    """Target sizes, where they are given rather than factors, name the channels too."""
    if shrink.has(_SIZES):
        rank = len(shrink.input(0))
        axes = [axis % rank for axis in shrink.integers("axes") or range(rank)]
        lost = {axes.index(axis): mask for axis, mask in shrink.lost().items() if axis in axes}
        shrink.set_sizes("sizes", _SIZES, lost)


def _regions(flow: Flow) -> Sequence[Axes | None]:
    """One output per region: the batch is mixed, channels pass."""
    data, shape = flow.of(0), flow.output()
    for axis in (data[0], *data[2:]):
        flow.freeze(axis, "a pooled axis")
    freeze_inputs(flow, range(1, len(flow.axes)), "an input")
    rest = flow.fixed((shape[0], *shape[2:]), "an output")
    return [(rest[0], data[1], *rest[1:])]
