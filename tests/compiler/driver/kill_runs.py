"""Runs that are killed, or that race: ``python kill_runs.py FOLDER WAY`` prints as JSON what came of them.

Each run is a fork of this process, in which everything is loaded. It is killed in the moment before it touches a file
below the folder, or begins or ends a stage: in each such moment, one run after the other.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

import graphpress
from graphpress.driver import choice, output
from graphpress.errors import UsageError
from graphpress.ir import save
from graphpress.manager.manifest import file_record, foreign_files
from graphpress.models import build
from graphpress.progress import STAGE_WRITER
from graphpress.runtime import PairedTiming
from graphpress.scratch import reclaim

MOMENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "shutil.move", "shutil.rmtree")
"""Audit events that come before a file is touched; ``ctypes.dlsym`` comes before two folders are exchanged."""
FULL_EVERY = 12
"""After so many kills, a run that is not killed."""
ROUNDS, RUNS = 4, 6
"""Of a race."""
REFUSED = 2
"""Exit code of a run that may not write the folder."""

Moment = tuple[str, str]
"""The stage, and what comes next."""


class Workplace:
    """A model, data, an output folder, and the temporary folder."""

    def __init__(self, root: Path, way: str) -> None:
        self.root, self.out, self.old = root, root / "work" / "out", root / "old"
        self.replaces = way.startswith("replace")
        self.temporary = root / "tmp"
        for folder in (self.out.parent, self.temporary):
            folder.mkdir()
        tempfile.tempdir = str(self.temporary)
        if way == "replace in two steps":
            output._exchanged = lambda first, second: False
        choice.compare_latency = lambda *_, **__: PairedTiming(1.0, 0.5, 0.5, 0.5, 0.5, 9)
        save(build("resnet", depth=8, stem="cifar", width=4, image=8, classes=4), root / "net.onnx")
        np.savez(root / "data.npz", input=np.random.default_rng(0).normal(size=(8, 3, 8, 8)).astype(np.float32))
        self.run("fuse", self.old)

    def run(self, passes: str = "dce,quantize", out: Path | None = None) -> None:
        graphpress.optimize(
            self.root / "net.onnx", data=self.root / "data.npz", passes=passes, output=out or self.out,
            force=self.replaces, max_drop=None, threads=1,
        )  # fmt: skip

    def begin(self) -> None:
        """Put the output folder into its state before a run."""
        shutil.rmtree(self.out, ignore_errors=True)
        if self.replaces:
            shutil.copytree(self.old, self.out)

    def model(self) -> str:
        """Which model lies in the output folder; empty without one."""
        return file_record(self.out / "model.onnx").sha256 if self.out.exists() else ""

    def problems(self, right: set[str]) -> Iterator[str]:
        """What is wrong, once the next run has put right what a killed one left."""
        reclaim()
        output.put_right(self.out.parent)
        if left := [*self.temporary.iterdir(), *(set(self.out.parent.iterdir()) - {self.out})]:
            yield f"left behind: {left}"
        if self.model() not in right:
            yield f"the output is {self.model() or 'missing'}"
        if self.out.exists() and (foreign := foreign_files(self.out)):
            yield f"half written: {foreign}"


def fork(work: Callable[[], None]) -> int:
    """A fork that does the work."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except UsageError:
            os._exit(REFUSED)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return child


def ended(child: int) -> int:
    """The exit code of a fork; that of a signal is negative."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def counted(run: Callable[[], None], root: Path, reached: Callable[[Moment], None]) -> None:
    """Run, calling ``reached`` in each moment."""
    stage = ""

    def begin(text: str) -> None:
        nonlocal stage
        stage = text
        reached((stage, "stage"))

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        paths = (os.fsdecode(argument) for argument in arguments if isinstance(argument, (str, bytes, os.PathLike)))
        if (event in MOMENTS and any(path.startswith(str(root)) for path in paths)) or event == "ctypes.dlsym":
            reached((stage, event))

    STAGE_WRITER.set(begin)
    sys.addaudithook(audit)
    run()


def write_line(pipe: int, moment: Moment) -> None:
    os.write(pipe, f"{json.dumps(moment)}\n".encode())


def moments_of(place: Workplace) -> list[Moment]:
    """All moments of a run."""
    read, write = os.pipe()
    with os.fdopen(read) as lines:
        child = fork(lambda: counted(place.run, place.root, lambda moment: write_line(write, moment)))
        os.close(write)
        moments = [tuple(json.loads(line)) for line in lines]
    assert ended(child) == 0
    return moments


def killed(place: Workplace, at: int) -> None:
    """A run that is killed in this moment."""
    left = [at]

    def reached(moment: Moment) -> None:
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1

    place.begin()
    assert ended(fork(lambda: counted(place.run, place.root, reached))) == -signal.SIGKILL


def kill(place: Workplace, way: str) -> dict[str, object]:
    """Kill a run in each of its moments."""
    place.begin()
    before = place.model()
    place.run()
    after = place.model()
    assert before != after
    place.begin()
    moments = moments_of(place)
    problems = []
    for number, moment in enumerate(moments):
        if way != "new" and moment[0] not in ("", "delivering"):
            continue  # as when the folder is new
        killed(place, number)
        problems += [f"{number}, {moment}: {problem}" for problem in place.problems({before, after})]
        if number % FULL_EVERY == 0:
            place.begin()
            assert ended(fork(place.run)) == 0
            problems += [f"run after {number}, {moment}: {problem}" for problem in place.problems({after})]
    return {"moments": Counter(stage for stage, _ in moments), "problems": problems}


def run_when_let_go(place: Workplace, read: int, write: int) -> None:
    """Run when nobody holds the pipe's writing end any more."""
    os.close(write)
    os.read(read, 1)
    place.run()


def race(place: Workplace) -> dict[str, object]:
    """Runs to one new folder, all let go at once."""
    codes, problems = [], []
    place.run()
    right = place.model()
    for _ in range(ROUNDS):
        place.begin()
        read, write = os.pipe()
        children = [fork(partial(run_when_let_go, place, read, write)) for _ in range(RUNS)]
        os.close(write)
        os.close(read)
        codes.append(sorted(map(ended, children)))
        if entries := set(place.out.parent.iterdir()) - {place.out}:
            problems.append(f"left behind: {entries}")
        problems += place.problems({right})
    return {"codes": codes, "problems": problems}


if __name__ == "__main__":
    workplace = Workplace(Path(sys.argv[1]), sys.argv[2])
    print(json.dumps(race(workplace) if sys.argv[2] == "race" else kill(workplace, sys.argv[2])))
