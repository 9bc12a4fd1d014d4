"""Resampling: axes whose size stays pass."""

from __future__ import annotations

from collections.abc import Sequence

from graphpress.ops.dependency import Axes
from graphpress.ops.rules import keep_size, per_output, pin_inputs
from graphpress.ops.shrink import Shrink
from graphpress.ops.spec import MOVES_FIRST, Flow, OpSpec


def entries() -> dict[str, OpSpec]:
    """The operators of this family."""
    return {
        "Resize": OpSpec(_resize, per_output(4), MOVES_FIRST, shrink=_smaller_sizes),  # interpolates
        "Upsample": OpSpec(_resize, per_output(4)),
    }


_SIZES = 3
"""Input of Resize that holds target sizes."""


def _resize(flow: Flow) -> Sequence[Axes | None]:
    pin_inputs(flow, range(1, len(flow.axes)), "an input")
    return keep_size(flow)


def _smaller_sizes(shrink: Shrink) -> None:
    """Target sizes, where they are given rather than factors, name the channels too."""
    if shrink.node.has(_SIZES):
        rank = len(shrink.node.input_shape(0))
        axes = [axis % rank for axis in shrink.node.integers("axes") or range(rank)]
        lost = {axes.index(axis): mask for axis, mask in shrink.lost().items() if axis in axes}
        shrink.set_sizes("sizes", _SIZES, lost)
