"""Pooling: batch and channels pass, space is pinned."""

from __future__ import annotations

import math
from collections.abc import Sequence

from graphpress.ir import NodeView
from graphpress.ops.dependency import Axes
from graphpress.ops.rules import channels_pass, opaque, per_input, per_output
from graphpress.ops.spec import MOVES_FIRST, Flow, OpSpec, Work


def entries() -> dict[str, OpSpec]:
    """The operators of this family."""
    return {
        "AveragePool": OpSpec(channels_pass, _window),
        "GlobalAveragePool": OpSpec(channels_pass, per_input()),
        "GlobalLpPool": OpSpec(channels_pass, per_input(2)),
        "GlobalMaxPool": OpSpec(channels_pass, per_input(), MOVES_FIRST),
        "LpPool": OpSpec(channels_pass, _window),
        "MaxPool": OpSpec(_max_pool, _window, MOVES_FIRST),
        "MaxUnpool": OpSpec(opaque, per_output()),
    }


def _window(node: NodeView) -> Work:
    return Work(operations=math.prod(node.output_shape()) * math.prod(node.integers("kernel_shape") or ()))


def _max_pool(flow: Flow) -> Sequence[Axes | None]:
    """Indices, when they are asked for, count through the whole tensor: everything stays."""
    return channels_pass(flow) if len(flow.node.output_shapes) == 1 else opaque(flow)
