"""A learning rate from short trials."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphpress.training.rate_search import BUDGET, MAX_STEPS, MIN_STEPS, SHARES, find_share, trial_steps

START = 2.5


def share_of(*losses: float) -> tuple[float, int]:
    """The share found, and how many trials it took."""
    table, asked = dict(zip(SHARES, losses, strict=False)), []
    share = find_share(START, lambda share: asked.append(share) or table[share])
    return share, len(asked)


@pytest.mark.parametrize(
    ("losses", "share", "trials"),
    [
        ((1.0, 1.5), 1.0, 1),  # a bad start: the full rate, and no need to look further
        ((2.65, 2.445, 2.411, 2.433), 0.3, 2),  # a good one: the largest that breaks even
        ((2.65, 2.55, 2.411, 2.433), 0.3, 2),
        ((2.9, 2.65, 2.411, 2.45), 0.1, 3),
        ((2.9, 2.8, 2.7, 2.501), 0.03, 3),  # what is left needs no trial
        ((float("inf"), float("inf"), 2.4, 2.45), 0.1, 3),
    ],
)
def test_the_largest_share_that_breaks_even(losses, share, trials):
    assert share_of(*losses) == (share, trials)


@given(st.integers(1, 100_000), st.floats(0.1, 1e5), st.floats(1e-4, 10))
def test_trials_keep_to_their_part_of_the_budget(steps, seconds, each):
    count = trial_steps(steps, seconds, each)
    assert count == 0 or MIN_STEPS <= count <= MAX_STEPS
    assert count * (len(SHARES) - 1) <= BUDGET * steps + 1e-9
    assert count * (len(SHARES) - 1) * each <= BUDGET * seconds + 1e-6
