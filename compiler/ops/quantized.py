"""Operators between float and integer grids: quantize, dequantize."""

from __future__ import annotations

from collections.abc import Sequence

from graphpress.ops.dependency import Axes
from graphpress.ops.rules import per_input, pin_all, unite_axis, whole_axes
from graphpress.ops.spec import Flow, OpSpec


def entries() -> dict[str, OpSpec]:
    """The operators of this family."""
    return {
        "QuantizeLinear": OpSpec(_grid, per_input(2)),
        "DequantizeLinear": OpSpec(_grid, per_input(2)),
        "DynamicQuantizeLinear": OpSpec(_dynamic, per_input(4)),
    }


def _grid(flow: Flow) -> Sequence[Axes | None]:
    """One scale per position of an axis belongs to that axis; one per block keeps the axis whole."""
    data = flow.of(0)
    if not data:
        return [data]
    axis = flow.node.integer("axis", 1) % len(data)  # out of range where one scale holds for all: then it says nothing
    parameters = [flow.of(index) for index in (1, 2) if flow.node.has(index)]
    unite_axis(flow.classes, data[axis], *parameters)
    if any(len(parameter) > 1 for parameter in parameters):
        whole_axes(flow, [axis], "a blocked axis")
        for parameter in parameters:
            for index, along in enumerate(parameter):
                if len(along) == len(data[index]):
                    flow.classes.unite(along, data[index])
                else:
                    flow.pin(along, "a blocked axis")
    return [data]


def _dynamic(flow: Flow) -> Sequence[Axes | None]:
    """The grid is that of the whole tensor's range."""
    return pin_all(flow, "a tensor whose range is taken")
