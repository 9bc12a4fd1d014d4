"""Time of the whole default job on a ResNet-50, by what takes it.

    python benchmarks/job.py [--width 64] [--samples 96] [--rounds 3] [--against PYTHON ...]

Random weights and samples of 224×224, one part of data without labels: the metric is agreement. Each run is a process
of its own, on one thread, in turn with the same by other interpreters (``--against``) with another graphpress.

Seconds are those of the processor, from reading the model to the report. *Runs* are samples through a session of ONNX
Runtime, *loads* are sessions made; the rest is Python. A stage is where the command says that it is.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

CHILD = "--child"
STAGES = {"measuring": "reference", "pass quantize": "calibration", "pass repair": "repair", "evaluating": "scoring",
          "timing": "timing", "lossless": "lossless check", "layer": "layer errors"}  # fmt: skip


def build_job(folder: Path, width: int, samples: int) -> None:
    """Write ``model.onnx`` and ``data.yaml``."""
    from graphpress.ir import save
    from graphpress.models import build

    save(build("resnet", depth=50, width=width, image=224, classes=1000), folder / "model.onnx")
    np.savez(folder / "x.npz", x=np.random.default_rng(0).standard_normal((samples, 3, 224, 224), np.float32))
    (folder / "data.yaml").write_text("calibration: {source: x.npz, inputs: {input: x}}\n")


def run_once(folder: Path) -> dict[str, Any]:
    """The job in this process, and what it spent where."""
    import graphpress
    from graphpress.progress import STAGE_WRITER
    from graphpress.runtime import session

    spent: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0, 0.0])
    stage = [""]

    def watched(call: Any, place: int, count: Any) -> Any:
        def watching(*arguments: Any, **options: Any) -> Any:
            began = time.process_time()
            try:
                return call(*arguments, **options)
            finally:
                name = next((name for words, name in STAGES.items() if words in stage[0]), "other")
                spent[name][place] += time.process_time() - began
                spent[name][place + 1] += count(*arguments)

        return watching

    session.Session.run = watched(session.Session.run, 0, lambda _, feed: len(next(iter(feed.values()))))  # type: ignore[method-assign]
    session._open = watched(session._open, 2, lambda *_: 1)
    STAGE_WRITER.set(lambda text: stage.__setitem__(0, text))
    began, wall = time.process_time(), time.perf_counter()
    result = graphpress.optimize(folder / "model.onnx", data=str(folder / "data.yaml"), output=folder / "out",
                                 threads=1, force=True)  # fmt: skip
    return {"seconds": time.process_time() - began, "wall": time.perf_counter() - wall, "spent": spent,
            "status": result.report.status}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--samples", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--against", nargs="*", default=[], metavar="PYTHON")
    parser.add_argument(CHILD, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(run_once(options.child)))
        return
    results: dict[str, list[dict[str, Any]]] = defaultdict(list)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # numpy's own threads
    with tempfile.TemporaryDirectory() as folder:
        build_job(Path(folder), options.width, options.samples)
        for _ in range(options.rounds):
            for python in (sys.executable, *options.against):
                command = [python, __file__, CHILD, folder]
                ran = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
                results[python].append(json.loads(ran.stdout.splitlines()[-1]))
    for python, runs in results.items():
        report(python, runs)


def report(python: str, runs: list[dict[str, Any]]) -> None:
    """The run of median time, stage by stage."""
    seconds = sorted(run["seconds"] for run in runs)
    typical = next(run for run in runs if run["seconds"] == seconds[len(seconds) // 2])
    print(f"\n{python}: {', '.join(f'{each:.1f}' for each in seconds)} s of the processor, "
          f"{median(run['wall'] for run in runs):.1f} s, {typical['status']}\n")  # fmt: skip
    print("| stage | runs | samples | loads | sessions |\n|---|---|---|---|---|")
    for name, (running, samples, loading, sessions) in typical["spent"].items():
        print(f"| {name} | {running:.2f} s | {samples:.0f} | {loading:.2f} s | {sessions:.0f} |")
    rest = typical["seconds"] - sum(spent[0] + spent[2] for spent in typical["spent"].values())
    print(f"| Python | {rest:.2f} s | | | |")


if __name__ == "__main__":
    main()
