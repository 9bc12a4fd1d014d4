"""What counts as worse."""

import pytest

from graphpress.manager.gate import Comparison
from graphpress.runtime import PairedTiming


def timing(low, ratio, high):
    return PairedTiming(1.0, ratio, ratio, low, high, 100)


SAME, FASTER, SLOWER, UNSURE = (
    timing(0.99, 1.0, 1.01),
    timing(0.5, 0.6, 0.7),
    timing(1.1, 1.2, 1.3),
    timing(0.9, 1.2, 1.5),
)


@pytest.mark.parametrize(
    ("measured", "after", "worse"),
    [
        (SAME, 100, ""),
        (SLOWER, 10, "1.20 times as slow (at least 1.10)"),
        (UNSURE, 100, ""),
        (timing(1.03, 1.1, 1.2), 100, ""),
        (SAME, 101, "larger (101 bytes against 100) and not faster"),
        (UNSURE, 101, "larger (101 bytes against 100) and not faster"),
        (FASTER, 500, ""),
        (None, 100, ""),
        (None, 101, "larger (101 bytes against 100) and not faster"),
    ],
)
def test_worse_is_surely_slower_or_larger_without_being_faster(measured, after, worse):
    assert Comparison(measured, 100, after).worse == worse
