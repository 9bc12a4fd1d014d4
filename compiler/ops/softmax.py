"""The Softmax family: the axis that is normalized stays whole."""

from __future__ import annotations

from collections.abc import Sequence

from graphpress.ops.atoms import Axes
from graphpress.ops.rules import per_input
from graphpress.ops.spec import Flow, OpSpec


def entries() -> dict[str, OpSpec]:
    """The operators of this family."""
    return {name: OpSpec(_softmax, per_input(10)) for name in ("Hardmax", "LogSoftmax", "Softmax")}


_PER_AXIS_SINCE = 13
"""Before this operator set, Softmax took all axes from ``axis`` on as one."""


def _softmax(flow: Flow) -> Sequence[Axes | None]:
    data = flow.of(0)
    per_axis = flow.node.opset >= _PER_AXIS_SINCE
    axis = flow.node.axis(-1 if per_axis else 1, len(data))
    for one in data[axis : axis + 1] if per_axis else data[axis:]:
        flow.freeze(one, "the axis that is normalised")
    return [data]
