"""What fits into the time of a trial: counted, and scaled by one measured rate."""

import time

import numpy as np
import pytest

from graphpress.deadline import NO_DEADLINE, Deadline
from graphpress.models import build
from graphpress.passes.recovery._budget import FEWEST, RepairBudget


def slow(seconds):
    def run(feed):
        time.sleep(seconds)

    return run


def data(count):
    return [{"x": np.zeros((1, 1), np.float32)}] * count


def test_a_share_of_the_data_is_the_same_number_of_samples_on_any_machine():
    budgets = [RepairBudget.of(slow(seconds), data(200), 1.0, 0.0, NO_DEADLINE) for seconds in (0.001, 0.003)]
    assert {budget.samples(256) for budget in budgets} == {16}
    assert budgets[0].seconds < budgets[1].seconds


def test_a_fast_model_gets_the_seconds_that_are_granted_in_any_case():
    budget = RepairBudget(seconds=3.0, per_sample=1e-4)
    assert budget.samples(256) == 256
    assert budget.samples(100) == 100


@pytest.mark.parametrize("per_sample", [0.02, 0.025, 0.036])
def test_noise_of_the_rate_seldom_makes_a_difference(per_sample):
    assert RepairBudget(3.0, per_sample).samples(256) == 8


def test_a_slow_model_looks_at_the_fewest_samples_unless_the_time_is_limited():
    assert RepairBudget.of(slow(0.001), data(4), 1.0, 0.0, NO_DEADLINE).samples(256) == FEWEST
    assert RepairBudget.of(slow(0.001), data(100), 1.0, 3.0, Deadline(time.monotonic(), 0.05)) is None


def test_weights_are_solved_from_fewer_samples_before_they_are_given_up():
    model = build("resnet", depth=8, stem="cifar", width=8, image=8, classes=4)
    fits = RepairBudget(3.0, 1e-4).seconds_for_weights(model, 64)
    assert RepairBudget(1.01 * fits, 1e-4).samples_for_weights(model, 200) == 50
    assert RepairBudget(1.01 * fits, 1e-4).samples_for_weights(model, 64) == 64
    assert RepairBudget(0.01 * fits, 1e-4).samples_for_weights(model, 64) is None


def test_solving_is_counted_by_the_cube_of_what_layers_read():
    narrow, wide = (build("resnet", depth=8, stem="cifar", width=width, image=8, classes=4) for width in (8, 32))
    budget = RepairBudget(3.0, 1e-3)
    runs = budget.seconds_for_weights(narrow, 0)
    assert budget.seconds_for_weights(wide, 0) > 3 * runs > 0
