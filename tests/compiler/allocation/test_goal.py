"""Goals: fractions of a cost that may stay."""

from __future__ import annotations

import pytest

from graphpress.allocation import Goal
from graphpress.errors import UsageError


@pytest.mark.parametrize(
    ("goal", "resource", "budget"),
    [
        (Goal("ratio", 0.25), "units", 0.75),
        (Goal("macs_kept", 0.4), "macs", 0.4),
        (Goal("params_kept", 0.4), "parameters", 0.4),
        (Goal("bytes_kept", 0.5), "bytes", 0.5),
        (Goal("speedup", 2.0), "seconds", 0.5),
    ],
)
def test_a_goal_is_a_fraction_of_a_cost(goal, resource, budget):
    assert goal.resource == resource
    assert goal.budget == budget
    assert goal.limit(1000) == pytest.approx(1000 * budget)
    assert goal.towards(budget).budget == pytest.approx(budget)
    assert f"{goal.amount:.3f}" in goal.describe(budget)


def test_equal_sums_are_within_the_limit_whatever_their_rounding():
    assert sum([0.1] * 10) <= 1.0 <= Goal("macs_kept", 0.1 + 0.2).limit(1 / 0.3)


def test_the_error_says_whose_goal_it_is():
    with pytest.raises(UsageError, match=r"speedup=0\.5") as error:
        Goal("speedup", 0.5, where="low_rank")
    assert error.value.where == "low_rank"
