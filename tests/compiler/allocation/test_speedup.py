"""The search for a measured ratio. No assertion rests on how long anything took."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from graphpress.allocation.speedup import ATTEMPTS, ROUNDS, is_near_enough, match_ratio, nearest, next_budget

FARTHEST = 0.051
"""From what is wanted, after six rounds: about half of what counts as met. It is reached in the corner of wanted=0.3,
power=0.5 and overhead=0.2."""


@given(st.floats(0.3, 0.95), st.floats(0.5, 1.6), st.floats(0.0, 0.2))
def test_the_search_finds_the_budget(wanted, power, overhead):
    def ratio(budget):
        return overhead + (1 - overhead) * budget**power

    if ratio(0.001) > wanted * 0.97:
        return
    budget, tried = wanted, []
    for _ in range(6):
        tried.append((budget, ratio(budget)))
        if abs(tried[-1][1] / wanted - 1) < 0.03:
            break
        budget = next_budget(tried, wanted)
    assert min(abs(reached / wanted - 1) for _, reached in tried) < FARTHEST


def search(wanted, ratio_at, steps=100, floor=0.0):
    """Choices are budgets in steps; which were measured, in order."""
    asked = []

    def allocate(budget):
        kept = max(round(budget * steps), round(floor * steps))
        return {"all": kept}, kept / steps <= budget + 0.5 / steps

    def measure(choices):
        asked.append(choices["all"])
        return ratio_at(choices["all"] / steps)

    return match_ratio(wanted, allocate, measure), asked


def test_the_first_trial_is_enough_where_the_model_of_the_time_is_right():
    trials, asked = search(0.5, lambda budget: budget)
    assert asked == [50]
    assert nearest(trials, 0.5).ratio == 0.5


def test_choices_that_come_again_are_not_measured_again():
    trials, asked = search(0.5, lambda budget: 0.3 + 0.5 * budget, steps=4)
    assert len(asked) == len(set(asked)) == len(trials) < ATTEMPTS


def test_it_stops_at_the_floor_when_even_that_takes_longer():
    trials, asked = search(0.2, lambda budget: budget, floor=0.6)
    assert asked == [60]
    assert not is_near_enough(nearest(trials, 0.2).ratio, 0.2)


def test_it_measures_no_more_than_its_rounds():
    _, asked = search(0.5, lambda budget: 0.9 if round(budget * 1000) % 2 else 0.1, steps=1000)
    assert len(asked) <= ROUNDS
