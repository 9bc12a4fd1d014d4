"""Some mutants, always the same ones; ``benchmarks/fuzz.py`` takes as many others as there is time for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "fuzz.py"
MUTANTS = 150

pytestmark = pytest.mark.slow


def test_mutants_end_in_a_clean_error_or_in_a_model_that_is_right():
    done = subprocess.run(
        [sys.executable, SCRIPT, "--count", str(MUTANTS), "--jobs", str(os.cpu_count() or 1), "--json"],
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-9000:]
    counts = json.loads(done.stdout)
    assert sum(count[kind] for count in counts.values() for kind in count) == MUTANTS
    assert {count["finding"] for count in counts.values()} == {0}
    for count in counts.values():  # both ends are reached, through every pipeline
        assert count["error"] >= 6
        assert count["right"] >= 6
