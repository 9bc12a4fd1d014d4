"""The linear operators that write or read a group."""

from __future__ import annotations

from dataclasses import dataclass

from graphpress.analysis.linear import LinearOp, linear_ops_of
from graphpress.coupling import Coupling, Group, Place
from graphpress.ir import label
from graphpress.passes.prune.criteria._reduction import Reduction
from graphpress.passes.prune.criteria._roles import chosen_places


@dataclass(frozen=True)
class LinearPlace:
    """A group's place on the weight of a linear operator.

    Args:
        place: where on the weight.
        op: the operator; one of them where several share the weight.
        reads: the operator sums over the units, else they are its outputs.
    """

    place: Place
    op: LinearOp
    reads: bool


def linear_places(coupling: Coupling, reduction: Reduction) -> dict[str, list[LinearPlace]]:
    """By group, its places on weights in the roles that count; on all weights where there is none."""
    return {group.name: _chosen(group, reduction) for group in coupling.groups}


def _chosen(group: Group, reduction: Reduction) -> list[LinearPlace]:
    wanted = [linear for place in chosen_places(group, reduction) for linear in _linear(place)]
    return wanted or [linear for place in group.constants for linear in _linear(place)]


def _linear(place: Place) -> list[LinearPlace]:
    """One for each operator that reads the weight."""
    places = {
        label(op.result): LinearPlace(place, op, place.axis == op.in_axis)
        for op in linear_ops_of(place.value)
        if place.axis in (op.in_axis, op.out_axis)
    }
    return [places[name] for name in sorted(places)]
