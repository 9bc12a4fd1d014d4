"""What the normalizations share: division by a root mean square, and the scale and shift behind it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from graphpress.ir import (
    DataType,
    Editor,
    Match,
    Node,
    Refusal,
    Value,
    constant,
    dims_of,
    int_attribute,
    is_constant,
    label,
    producer,
    rank_of,
)
from graphpress.passes._operands import ints_operand, normal_axes
from graphpress.passes.fusion._operands import number, only_reader_of_type, orders, with_number


@dataclass
class Normalization:
    """``value / √(mean(value²) + epsilon)`` over the last axes, perhaps times ``scale`` plus ``bias``.

    Args:
        value: what is divided by its root mean square.
        axis: the first of the normalized axes, counted from the end.
        end: the last node of the expression.
        nodes: all nodes of the expression.
        source: ``value`` ahead of a Cast to float32 that is undone behind the division.
    """

    value: Value
    axis: int
    epsilon: float
    end: Node
    nodes: list[Node] = field(default_factory=list)
    scale: Value | None = None
    bias: Value | None = None
    source: Value | None = None


def root_mean_square_division(node: Node) -> Normalization | None:
    """The normalization whose division is ``node``, written  v/√m,  v·(1/√m)  or  v·m^(-1/2)."""
    seen: list[Node] = [node]
    for value, mean in _dividends(node, seen):
        add = producer(mean, "Add")
        joined = None if add is None else with_number(add)
        if add is None or joined is None or joined[1] < 0:
            continue
        average = mean_over_last(joined[0])
        axis = None if average is None else last_axes(average)
        nodes = [*seen, add]
        if average is not None and axis is not None and squared(average.inputs[0], nodes) is value:
            return Normalization(value, axis, joined[1], node, [*nodes, average])
    return None


def _dividends(node: Node, seen: list[Node]) -> list[tuple[Value, Value]]:
    """Pairs (v, m) such that ``node`` may compute v/√m; the nodes of the root are added to ``seen``."""
    if node.op_type == "Div":
        first, second = node.inputs
        root = producer(second, "Sqrt")
        if root is None or first is None or root.inputs[0] is None:
            return []
        seen.append(root)
        return [(first, root.inputs[0])]
    pairs = []
    for value, factor in orders(node):
        inside = _inverse_root(factor)
        if inside is not None:
            seen += inside[1]
            pairs.append((value, inside[0]))
    return pairs


def _inverse_root(value: Value) -> tuple[Value, list[Node]] | None:
    """The m of 1/√m, with the nodes that compute it."""
    power = producer(value, "Pow")
    if power is not None and power.inputs[0] is not None and number(power.inputs[1], power.inputs[0]) == -0.5:
        return power.inputs[0], [power]
    inverse = producer(value, "Reciprocal", "Div")
    if inverse is None or (inverse.op_type == "Div" and number(inverse.inputs[0], inverse.inputs[1]) != 1):
        return None
    root = producer(inverse.inputs[-1], "Sqrt")
    return None if root is None or root.inputs[0] is None else (root.inputs[0], [inverse, root])


def squared(value: Value | None, nodes: list[Node]) -> Value | None:
    """The v whose square is ``value``: v² or v·v."""
    node = producer(value, "Pow", "Mul")
    if node is None or node.inputs[0] is None:
        return None
    same = node.inputs[1] is node.inputs[0]
    if not (same if node.op_type == "Mul" else number(node.inputs[1], node.inputs[0]) == 2):
        return None
    nodes.append(node)
    return node.inputs[0]


def mean_over_last(value: Value | None) -> Node | None:
    """The ReduceMean over the last axes that computes ``value``, with the axes kept."""
    node = producer(value, "ReduceMean")
    return node if node is not None and int_attribute(node, "keepdims", 1) and last_axes(node) is not None else None


def last_axes(reduction: Node) -> int | None:
    """The first reduced axis, counted from the end, where all axes from there on are reduced; else None."""
    axes = ints_operand(reduction, "axes", 1)
    rank = rank_of(reduction.inputs[0])
    if not axes:
        return None
    if rank is not None:
        axes = tuple(axis - rank for axis in normal_axes(axes, rank))
    ordered = sorted(axes)
    return ordered[0] if ordered == list(range(-len(ordered), 0)) else None


def look_past_casts(normalization: Normalization) -> None:
    """Extend a normalization that is computed in float32 over the casts from and back to another float type."""
    into = producer(normalization.value, "Cast")
    after = only_reader_of_type(normalization.end, "Cast")
    if into is None or after is None or into.inputs[0] is None:
        return
    outer = into.inputs[0].dtype
    if normalization.value.dtype != DataType.FLOAT or outer is None or int_attribute(after, "to", 0) != int(outer):
        return
    normalization.nodes += [into, after]
    normalization.source, normalization.end = into.inputs[0], after


def take_scale(normalization: Normalization) -> None:
    """Extend a normalization over the multiplication behind it, if that has a number for each normalized element."""
    normalization.scale = _take(normalization, "Mul")


def take_bias(normalization: Normalization) -> None:
    """Extend a scaled normalization over the addition behind it, likewise."""
    normalization.bias = _take(normalization, "Add")


def _take(normalization: Normalization, op_type: str) -> Value | None:
    node = only_reader_of_type(normalization.end, op_type)
    if node is None:
        return None
    for value, other in orders(node):
        if value is normalization.end.outputs[0] and _spans(other, normalization):
            normalization.nodes.append(node)
            normalization.end = node
            return other
    return None


def _spans(operand: Value, normalization: Normalization) -> bool:
    """Whether the operand has just the normalized axes, in full size."""
    dims, mine = dims_of(normalization.value), dims_of(operand)
    if dims is None or mine is None or len(mine) != -normalization.axis or not is_constant(operand):
        return False
    return all(a is not None and a == b for a, b in zip(mine, dims[normalization.axis :], strict=True))


def as_match(normalization: Normalization) -> Match | Refusal:
    """The match of an operator fusion, whose inputs ``operands`` makes."""
    if 0 in (dims_of(normalization.value) or ())[normalization.axis :]:
        return Refusal.at(normalization.end, "there is nothing along the normalized axes")
    ones = _unit_scale(normalization) if normalization.scale is None else None
    if isinstance(ones, Refusal):
        return ones
    attributes = {"axis": normalization.axis, "epsilon": normalization.epsilon}
    return Match(
        end=normalization.end, nodes=normalization.nodes, attributes=attributes, normalization=normalization, ones=ones
    )


def _unit_scale(normalization: Normalization) -> np.ndarray | Refusal:
    """Ones in the shape and type of the normalized axes, for a normalization without a scale."""
    source = normalization.source or normalization.value
    dims = dims_of(source)
    if dims is None or any(dim is None for dim in dims[normalization.axis :]) or source.dtype is None:
        return Refusal.at(normalization.end, f"the size of {label(source)} along the normalized axes is unknown")
    return np.ones([dim or 0 for dim in dims[normalization.axis :]], source.dtype.numpy())


def operands(edit: Editor, normalization: Normalization, ones: np.ndarray | None) -> list[Value]:
    """The inputs of the operator: the normalized value, the scale (ones where there is none), the bias if any."""
    scale = normalization.scale
    if scale is None:
        assert ones is not None
        scale = edit.add_constant_for(normalization.end, ones, f"{normalization.end.name or 'normalization'}_scale")
    assert constant(scale) is not None
    return [
        normalization.source or normalization.value,
        scale,
        *([] if normalization.bias is None else [normalization.bias]),
    ]
