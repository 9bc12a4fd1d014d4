"""What tests of every room share."""

from __future__ import annotations

import cProfile
import pstats
from collections.abc import Callable

import pytest


def count_calls(call: Callable[[], object]) -> int:
    """How many function calls it takes: a measure of work that does not depend on how busy the machine is."""
    profile = cProfile.Profile()
    profile.runcall(call)
    return pstats.Stats(profile).total_calls


@pytest.fixture
def work() -> Callable[[Callable[[], object]], int]:
    """Counts the function calls that something takes."""
    return count_calls
