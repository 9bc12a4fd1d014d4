"""The Softmax family: the axis that is normalized stays whole."""

from __future__ import annotations

from collections.abc import Sequence

from graphpress.ir import normalize_axis
from graphpress.ops.dependency import Axes
from graphpress.ops.rules import per_input
from graphpress.ops.semantics.axes import softmax_axis
from graphpress.ops.spec import Flow, OpSpec


def entries() -> dict[str, OpSpec]:
    """The operators of this family."""
    return {name: OpSpec(_softmax, per_input(10)) for name in ("Hardmax", "LogSoftmax", "Softmax")}


def _softmax(flow: Flow) -> Sequence[Axes | None]:
    data = flow.of(0)
    given, alone = softmax_axis(flow.node)
    first = normalize_axis(given, len(data))
    for axis in data[first : first + 1] if alone else data[first:]:
        flow.pin(axis, "the axis that is normalized")
    return [data]
