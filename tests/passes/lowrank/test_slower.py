"""Chains that are slower than their layer are given up where the goal can be reached without."""

import pytest

from graphpress.allocation import Goal
from graphpress.passes.lowrank._allocate import LayerChoices
from graphpress.passes.lowrank._chain import ChainCost
from graphpress.passes.lowrank._choices import RankChoice
from graphpress.passes.lowrank._slower import allocate_faster

WHOLE = ChainCost(100, 100)
GOAL = Goal("macs_kept", 0.75, "lowrank")


def choice(form, macs, error):
    return RankChoice(form, (1,), error, ChainCost(macs, macs), WHOLE)


def layers(*names):
    options = [choice("cp", 20, 0.2), choice("cp", 50, 0.1), choice("spatial", 50, 0.105)]
    return {name: LayerChoices(WHOLE, options) for name in names}


def slow_forms(**forms):
    def slower(choices):
        return {name for name, chosen in choices.items() if chosen.form in forms.get(name, ())}

    return slower


def test_a_faster_form_takes_the_place_of_one_that_is_slower():
    result = allocate_faster(layers("a", "b"), GOAL, 200.0, slow_forms(a=["cp"], b=["cp"]))
    assert result.shortfall is None
    assert {chosen.form for chosen in result.choices.values()} == {"spatial"}
    assert not result.slower
    assert not result.notes


def test_a_layer_that_no_form_makes_faster_stays_whole_where_another_can_save_as_much():
    result = allocate_faster(layers("a", "b"), GOAL, 200.0, slow_forms(a=["cp", "spatial"]))
    assert set(result.choices) == {"b"}
    assert "a" in result.given_up or not result.given_up


def test_what_the_goal_needs_is_kept_and_said():
    result = allocate_faster(layers("a"), Goal("macs_kept", 0.5, "lowrank"), 100.0, slow_forms(a=["cp", "spatial"]))
    assert set(result.choices) == {"a"}
    assert result.slower == {"a"}
    assert "more damage is done: a" in result.notes[0]


@pytest.mark.parametrize("names", [("a",), ("a", "b", "c")])
def test_nothing_changes_where_all_are_faster(names):
    result = allocate_faster(layers(*names), GOAL, 100.0 * len(names), slow_forms())
    assert result.choices
    assert not result.given_up
