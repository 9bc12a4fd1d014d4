import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphpress.training.schedule import ProgressPlan, learning_rate_factor, repeated


def test_progress_by_steps_is_a_straight_line():
    plan = ProgressPlan([(0, 10)])
    assert [plan.progress(step) for step in (0, 5, 10, 12)] == [0.0, 0.5, 1.0, 1.0]
    assert plan.steps == 10


def test_a_new_plan_changes_the_slope_and_not_the_height():
    plan = ProgressPlan([(0, 100)])
    before = plan.progress(20)
    plan.replan(20, 20)
    assert plan.progress(20) == before == 0.2
    assert plan.progress(30) == pytest.approx(0.6)
    assert plan.progress(40) == 1.0
    assert plan.steps == 40
    assert plan.progress(10) == 0.1, "what was is as it was"


def test_a_plan_can_end_at_once():
    plan = ProgressPlan([(0, 100)])
    plan.replan(7, 0)
    assert plan.progress(7) == 1.0
    assert plan.steps == 7


knots = st.lists(st.tuples(st.integers(1, 30), st.integers(0, 500)), max_size=6)


@given(st.integers(1, 1000), knots)
def test_recorded_knots_give_the_same_plan(total, later):
    plan = ProgressPlan([(0, total)])
    step, heights = 0, []
    for ahead, left in later:
        step += ahead
        plan.replan(step, left)
        heights.append((step, plan.progress(step)))
    again = repeated(plan.recorded())
    assert again.steps == plan.steps
    assert [again.progress(at) for at, _ in heights] == [plan.progress(at) for at, _ in heights]
    assert all(plan.progress(at) <= plan.progress(at + 1) for at in range(step + 40)), "progress never goes back"


def test_a_repeated_plan_takes_no_new_knots():
    plan = repeated([[0, 50]])
    plan.replan(10, 1000)
    assert plan.steps == 50


def test_the_learning_rate_rises_then_falls_to_zero():
    rates = [learning_rate_factor(at / 100) for at in range(101)]
    top = rates.index(max(rates))
    assert 0 < top < 6
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] == 0.0
    assert rates[0] > 0
