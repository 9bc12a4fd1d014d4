"""Trials find out: each thing that no run may do is a finding, and a run that does well is none."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest
from misbehavior import COMMANDS, verdict_on

FINE = {
    "refuses": ("error", "error: it is no good"),
    "delivers": ("right", "the same numbers"),
    "keeps": ("right", "the same numbers"),
    "misses the budget and says so": ("right", "the same numbers"),
}
FOUND = {
    "aborts": "died of signal 6",
    "raises": "traceback: ValueError: of our own",
    "hangs": "did not end in time",
    "eats memory": "traceback: MemoryError",
    "is a bug": "exit code 1: error: unexpected ValueError",
    "prints control characters": r"prints the control character '\x1b'",
    "says two errors": "not exactly one error",
    "says nothing": "not exactly one error",
    "leaves scratch": "leaves behind ['tmp/graphpress-1']",
    "leaves an output": "leaves behind ['out']",
    "writes elsewhere": "leaves behind ['elsewhere']",
    "delivers other numbers": "output 'y' differs by",
    "delivers another shape": "output 'y' is declared ['N', 2], was ['N', 3]",
    "renames an output": "outputs are",
    "delivers no model": "cannot be loaded",
    "breaks its promise": "against its budget",
    "lies": "of which the report says 0.000",
}


@pytest.fixture(scope="module")
def pool():
    """A fresh process, as a campaign is: here, other tests have made sessions, whose threads no fork survives."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        yield executor


@pytest.mark.parametrize("behavior", COMMANDS)
def test_every_behavior_is_judged(pool, behavior):
    kind, why = pool.submit(verdict_on, behavior).result(90)
    wanted, words = FINE.get(behavior) or ("finding", FOUND[behavior])
    assert (kind, words in why) == (wanted, True), why
