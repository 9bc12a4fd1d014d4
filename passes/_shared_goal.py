"""One goal for two passes that stand next to each other, however often it was stated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from graphpress.allocation import Goal, Kind
from graphpress.errors import UsageError
from graphpress.manager.contract import Context, Pass

REACHED = 1e-3
"""A goal that is missed by no more, relatively, is reached: channels and ranks are whole numbers."""

First = TypeVar("First", bound=Pass)
Second = TypeVar("Second", bound=Pass)


def stated_goal(pass_: Pass, kinds: Sequence[Kind]) -> Goal | None:
    """The goal that the fields of a pass state, each named like a kind of goal; None where they state none.

    Args:
        pass_: that has these fields.
        kinds: of goals, in the order of preference.

    Raises:
        UsageError: the amount makes no sense.
    """
    given = ((kind, getattr(pass_, kind)) for kind in kinds)
    return next((Goal(kind, amount, pass_.name) for kind, amount in given if amount is not None), None)


def with_one_goal(first: First, second: Second, kinds: Sequence[Kind], usual: Goal) -> tuple[First, Second]:
    """The passes, each with the goal that one of them or both state.

    Args:
        first: a pass with a field for each kind.
        second: the one behind it, with the same fields.
        kinds: of goals that can be shared.
        usual: the goal where neither states one.

    Raises:
        UsageError: they state two.
    """
    goals = [goal for pass_ in (first, second) if (goal := stated_goal(pass_, kinds)) is not None]
    if len({(goal.kind, goal.amount) for goal in goals}) > 1:
        stated = " and ".join(f"{goal.where}{{{goal.kind}={goal.amount:g}}}" for goal in goals)
        raise UsageError(
            f"{stated} stand next to each other, and would share one goal",
            where="--passes",
            fix="state the goal of both once, or put `reconstruct` between them for a goal of each",
        )
    goal = next(iter(goals), usual)
    return replace(first, **{goal.kind: goal.amount}), replace(second, **{goal.kind: goal.amount})


def is_reached(goal: Goal, context: Context) -> bool:
    """Whether passes before in the transaction, which share the goal, have reached it.

    Args:
        goal: counted from the start of the transaction.
        context: of the pass whose turn it is.
    """
    left = _left(context)
    return left < 1 and left <= goal.budget * (1 + REACHED)


def rest_of(goal: Goal, context: Context) -> Goal:
    """What passes before in the transaction leave to be reached of the goal that they share, counted from the model as
    it is. Arguments are those of ``is_reached``.
    """
    return goal.towards(goal.budget / _left(context))


def _left(context: Context) -> float:
    return 1.0 if context.transaction is None else context.transaction.left
