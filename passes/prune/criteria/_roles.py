"""What a constant does to the units that lie along one of its axes.

A linear operator *writes* the units along an axis of its weight that is an axis of the result, and *reads* those along
an axis that is summed over. A weight that several nodes read (a tied embedding) may do both. Every other constant
(bias, norm parameter, slope, embedding of positions) is applied element by element.
"""

from __future__ import annotations

from graphpress.analysis.linear import linear_op_of
from graphpress.coupling import Group, Place
from graphpress.ir import Node, int_attribute, is_standard, label, rank_of
from graphpress.passes.prune.criteria._reduction import ROLES, Reduction, Role


def roles_of(place: Place) -> frozenset[Role]:
    """The roles of the constant's axis, over all nodes that read the constant."""
    rank = rank_of(place.value) or 0
    return frozenset(_role(use.node, use.idx, place.axis, rank) for use in place.value.uses())


def factor_of(place: Place) -> str:
    """What the place acts together with, for ``Share.factor``: all that writes the units, or all that reads them; a
    depthwise convolution stands by itself between the two, and nothing depends on a bias.
    """
    if any(_is_depthwise(use.node, use.idx) for use in place.value.uses()):
        return label(place.value)
    role = min(roles_of(place), key=ROLES.index, default="elementwise")
    return "" if role == "elementwise" else role


def chosen_places(group: Group, reduction: Reduction) -> list[Place]:
    """The group's constants in one of the roles that count; all of them where there is none."""
    wanted = [place for place in group.constants if roles_of(place) & set(reduction.roles)]
    return wanted or list(group.constants)


def _is_depthwise(node: Node, index: int) -> bool:
    op = linear_op_of(node)
    return op is not None and index == op.weight_index and op.groups > 1 and op.weight_shape[op.in_axis] == 1


def _role(node: Node, index: int, axis: int, rank: int) -> Role:
    op = linear_op_of(node)
    if op is not None and index == op.weight_index:
        return {op.out_axis: "writes", op.in_axis: "reads"}.get(axis, "elementwise")  # type: ignore[return-value]
    if is_standard(node, "MatMul") and index == 0 and rank > 1:
        return "reads" if axis == rank - 1 else "writes"
    if is_standard(node, "Gather") and index == 0 and axis != int_attribute(node, "axis", 0) % rank:
        return "writes"
    return "elementwise"


def data_axis(node: Node) -> int | None:
    """The axis of a linear operator's data that it sums over, from the front; None for other nodes."""
    op = linear_op_of(node)
    rank = rank_of(None if op is None else op.data)
    if op is None or rank is None:
        return None
    if op.is_convolution:
        return 1
    return 0 if node.op_type == "Gemm" and int_attribute(node, "transA", 0) else rank - 1
