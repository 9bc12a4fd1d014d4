"""Chains that are slower than their layer, though they multiply less often, give way where the goal allows that.

A goal in multiply-accumulates says nothing of time, and a chain of thin layers may well take longer than the layer.
What was chosen is timed on this machine; chains that are not faster are given up, and what is left is allocated anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from graphpress.allocation import Goal
from graphpress.errors import listed
from graphpress.ir import Refusal
from graphpress.passes.lowrank._allocate import LayerChoices, allocate
from graphpress.passes.lowrank._choices import RankChoice

ROUNDS = 4
"""Allocations whose chains are timed, at most."""

Slower = Callable[[Mapping[str, RankChoice]], set[str]]
"""The layers whose chosen chains are not faster than they are, by name."""


@dataclass
class TimedAllocation:
    """Choices within a goal, none slower than its layer as far as the goal can be reached so.

    Args:
        choices: by layer.
        shortfall: why the goal is not met where it is not.
        given_up: layers with chains that were slower.
        slower: layers whose chains are slower, and kept for the goal.
    """

    choices: dict[str, RankChoice]
    shortfall: Refusal | None = None
    given_up: set[str] = field(default_factory=set)
    slower: set[str] = field(default_factory=set)

    @property
    def notes(self) -> list[str]:
        """For the report."""
        names = listed(sorted(self.slower))
        return [f"slower as a chain than whole, but the goal needs it: {names}"] if self.slower else []


def allocate_faster(layers: dict[str, LayerChoices], goal: Goal, whole: float, slower: Slower) -> TimedAllocation:
    """One choice for each layer that does not stay whole, as ``allocate`` makes it, without chains that are slower.

    Args:
        layers: by name, with what they may become.
        goal: on what they cost.
        whole: cost of the model.
        slower: times chains.
    """
    result = TimedAllocation(*allocate(layers, goal, whole))
    for _ in range(ROUNDS):
        result.slower = slower(result.choices)
        if not result.slower:
            break
        layers = layers | {name: _without(layers[name], result.choices[name]) for name in result.slower}
        choices, shortfall = allocate(layers, goal, whole)
        if shortfall is not None:
            break
        result = TimedAllocation(choices, None, result.given_up | result.slower)
    else:
        result.slower = slower(result.choices)
    return result


def _without(layer: LayerChoices, slow: RankChoice) -> LayerChoices:
    """A layer without a chain that is slower, and those of its form that multiply no less."""
    left = [choice for choice in layer.choices if choice.form != slow.form or choice.cost.macs < slow.cost.macs]
    return replace(layer, choices=left)
