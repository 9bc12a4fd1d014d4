"""Runs that are killed at any moment, and runs that race: no output is lost or half-written, and nothing is left."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("kill_runs.py")


def runs(folder: Path, way: str) -> Any:
    done = subprocess.run([sys.executable, SCRIPT, folder, way], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["new", "replace", "replace in two steps"])
def test_a_kill_at_any_moment_costs_nothing(tmp_path, way):
    """There is no output or a whole one, an earlier one is there or the new one, and the next run tidies up."""
    told = runs(tmp_path, way)
    stages = {stage.partition(":")[0] for stage in told["moments"]}
    assert stages >= {"reading net.onnx", "reading the data", "running the pass quantize", "delivering"}
    assert sum(told["moments"].values()) > 80
    assert told["problems"] == []


@pytest.mark.slow
def test_of_runs_to_one_new_folder_a_single_one_writes_it(tmp_path):
    told = runs(tmp_path, "race")
    assert told["codes"] == [[0, 2, 2, 2, 2, 2]] * len(told["codes"])
    assert told["problems"] == []
