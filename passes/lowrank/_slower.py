"""Chains that are slower than their layer, though they multiply less often, give way where the goal allows that.

A goal in multiply-accumulates says nothing of time, and a chain of thin layers may well take longer than the layer.
What was chosen is timed on this machine; chains that are not faster are given up, and what is left is allocated anew,
as long as that does hardly more damage.
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

WORSE = 1.1
"""How many times the damage an allocation without slower chains may do: what was asked for is not time."""

Slower = Callable[[Mapping[str, RankChoice]], set[str]]
"""The layers whose chosen chains are not faster than they are, by name."""


@dataclass
class TimedAllocation:
    """Choices within a goal, none slower than its layer as far as the goal can be reached so without much damage.

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
        why = "slower as a chain than whole, but without it the goal is missed or more damage is done"
        return [f"{why}: {listed(sorted(self.slower))}"] if self.slower else []


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
        if shortfall is not None or _damage(layers, choices) > WORSE * _damage(layers, result.choices):
            break
        result = TimedAllocation(choices, None, result.given_up | result.slower)
    else:
        result.slower = slower(result.choices)
    return result


def _damage(layers: Mapping[str, LayerChoices], choices: Mapping[str, RankChoice]) -> float:
    return sum(layers[name].curve.at(choice.error) for name, choice in choices.items())


def _without(layer: LayerChoices, slow: RankChoice) -> LayerChoices:
    """A layer without a chain that is slower, and those of its form that multiply no less."""
    left = [choice for choice in layer.choices if choice.form != slow.form or choice.cost.macs < slow.cost.macs]
    return replace(layer, choices=left)
