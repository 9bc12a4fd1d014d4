"""One mutant through one pipeline, and the verdict: a clean error, or a delivered model that is right, or a finding."""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from graphpress.cli.main import main
from mutants.ending import ERRORS, everything, fault_of, headline
from mutants.feeds import feed_of
from mutants.judge import Judge, Verdict
from mutants.mutant import Mutant
from mutants.pipelines import DATA_FILE, OUTPUT, Pipeline
from mutants.process import run_forked

SECONDS = 120.0
"""No run of a small model may take longer, however busy the machine."""
FEEDS = 2

Command = Callable[[list[str]], int]


def command_line(words: list[str]) -> int:
    """What the user calls, which works in a child of its own."""
    sys.argv[1:] = words
    return main()


def attempt(
    mutant: Mutant, pipeline: Pipeline, folder: Path, *, command: Command = command_line, seconds: float = SECONDS
) -> Verdict:
    """Put a mutant through a pipeline below this empty folder, and judge what comes of it.

    Args:
        mutant: the files.
        pipeline: the words of the command line.
        folder: the run itself takes place in ``work`` there.
        command: the command line; it returns the exit code.
        seconds: what it may take.
    """
    work = folder / "work"
    work.mkdir()
    model = mutant.write(work)
    feeds = [feed_of(mutant.model, mutant.seed, number) for number in range(FEEDS)]
    (work / DATA_FILE).write_bytes(_archive(feeds[0]))
    before = everything(work)
    ended = run_forked(partial(command, pipeline.command(model.name)), work, seconds=seconds)
    if fault := fault_of(ended, work, before):
        return Verdict("finding", fault)
    if ended.code in ERRORS:
        return Verdict("error", headline(ended.said))
    return Judge(model, work / OUTPUT, feeds, folder, pipeline).verdict()


def _archive(feed: Mapping[str, np.ndarray]) -> bytes:
    """An .npz of the arrays; empty where an input has a name that no archive can hold."""
    stream = io.BytesIO()
    try:
        np.savez(stream, **{name: _unpickled(array) for name, array in feed.items()})
    except (TypeError, ValueError, zipfile.LargeZipFile):
        return b""
    return stream.getvalue()


def _unpickled(array: np.ndarray) -> np.ndarray:
    """Words as numpy holds them without objects."""
    return array.astype(str) if array.dtype == object else array
