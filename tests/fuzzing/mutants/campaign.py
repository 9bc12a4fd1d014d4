"""Many trials, each in a process of its own."""

from __future__ import annotations

import importlib
import io
import os
import pickle
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path

import numpy as np

from graphpress.cli.main import main
from graphpress.driver import first_run
from graphpress.runtime import measure
from mutants.feeds import feed_of
from mutants.judge import Verdict
from mutants.mutant import MODEL_FILE, make_mutant
from mutants.pipelines import DATA_FILE, PIPELINES
from mutants.process import answer_of, limit_resources
from mutants.seeds import seeds
from mutants.tally import Trial
from mutants.trial import SECONDS, Command, attempt, command_line

ANSWER_SECONDS = 2.0
"""What a mutant may take for its first answer; endless loops are refused after it."""

_LIBRARIES = (
    "PIL", "google", "graphpress", "jinja2", "numpy", "onnx", "onnx_ir", "onnxruntime", "pydantic", "rich", "yaml",
)  # fmt: skip


def pipeline_of(index: int) -> str:
    """They take turns."""
    return list(PIPELINES)[index % len(PIPELINES)]


def run_trial(seed: int, index: int, folder: Path, *, command: Command = command_line) -> Trial:
    """Make a mutant and try it below this folder."""
    mutant, name = make_mutant(seed, index), pipeline_of(index)
    return Trial(index, mutant.seed, name, mutant.changes, attempt(mutant, PIPELINES[name], folder, command=command))


def run_trials(seed: int, indices: Iterator[int], *, jobs: int, seconds: float | None = None) -> Iterator[Trial]:
    """Trials as they end; none begins after so many seconds.

    Each is a fork of this process, which must not have made a session of ONNX Runtime.
    """
    warm_up()
    deadline = None if seconds is None else time.monotonic() + seconds
    running: dict[int, tuple[int, Path]] = {}
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        while True:
            while len(running) < jobs and (deadline is None or time.monotonic() < deadline):
                if (index := next(indices, None)) is None:
                    break
                folder = Path(scratch) / str(index)
                folder.mkdir()
                running[_start(seed, index, folder)] = (index, folder)
            if not running:
                return
            pid, _ = os.wait()
            index, folder = running.pop(pid)
            yield _result(index, folder)
            shutil.rmtree(folder)


def warm_up() -> None:
    """Import what the trials need, so that none pays for it, stop the clock, and wait for no model for long.

    What they need is what a seed makes a process import, through each pipeline. Every call takes a millisecond by that
    clock: nothing is timed, and the same mutant always ends the same way.
    """
    first_run.MOST_SECONDS = ANSWER_SECONDS
    measure._repeats = lambda call, warm_up=0.0: 1
    measure._time = lambda call, repeats: 1e-3
    measure.MAX_ROUNDS_A_SECOND = 1
    with redirect_stdout(io.StringIO()):
        main(["passes"])  # what is installed is looked up once
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        for pipeline in PIPELINES.values():
            folder = Path(scratch) / str(len(os.listdir(scratch)))
            folder.mkdir()
            _, names = answer_of(partial(_imported, pipeline.command(MODEL_FILE)), folder, seconds=SECONDS)
            for name in names or ():
                importlib.import_module(name)


def _imported(words: list[str]) -> list[str]:
    """Modules that a run on a seed imports."""
    before = set(sys.modules)
    model, _ = seeds()["convolutions"]
    Path(MODEL_FILE).write_bytes(model)
    np.savez(DATA_FILE, **feed_of(model, "convolutions"))
    main(words)
    return [name for name in sys.modules if name not in before and name.split(".")[0] in _LIBRARIES]


def _start(seed: int, index: int, folder: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        limit_resources()
        trial = run_trial(seed, index, folder)
        (folder / "trial").write_bytes(pickle.dumps(trial))
    except BaseException:
        (folder / "broken").write_text(traceback.format_exc(), encoding="utf-8")
    finally:
        os._exit(0)


def _result(index: int, folder: Path) -> Trial:
    if (folder / "trial").exists():
        trial: Trial = pickle.loads((folder / "trial").read_bytes())
        return trial
    said = (folder / "broken").read_text(encoding="utf-8") if (folder / "broken").exists() else "no result"
    return Trial(index, "", pipeline_of(index), (), Verdict("finding", f"the trial itself broke: {said}"))
