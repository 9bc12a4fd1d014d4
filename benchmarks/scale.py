"""The whole job against the size of the graph: seconds of the processor by phase, and their growth.

    python benchmarks/scale.py [--sizes 4000,16000,64000] [--families chain,nas,gpt,branches] [--recipe cleanup]

Each job runs in a process of its own, on one thread. What ONNX Runtime takes to load and run models, timing included,
stands apart: it is most of the rest for large graphs, and grows faster than they do.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import onnxruntime

import graphpress
from graphpress.driver import api
from graphpress.ir import count_nodes, load, save
from graphpress.manager.manager import Manager
from graphpress.models import build

FAMILIES: dict[str, Callable[[int], dict[str, Any]]] = {
    "chain": lambda nodes: {"nodes": nodes},
    "nas": lambda nodes: {"nodes": nodes},
    "gpt": lambda nodes: {"layers": nodes // 114, "width": 8, "heads": 2},
    "branches": lambda nodes: {"nodes": nodes},
}
"""Trivial nodes in a row; convolutional cells, irregularly wired; attention with shape arithmetic; If in If."""

PHASES = ("opening", "passes", "delivery", "ONNX Runtime")


class Clock:
    """Seconds of the processor by phase; what ONNX Runtime takes is taken off the phase that it is in."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PHASES, 0.0)

    @contextmanager
    def timing(self, owner: Any, name: str, phase: str) -> Iterator[None]:
        """Time the calls of a function of a module or class."""
        function = getattr(owner, name)

        def timed(*arguments: Any, **keywords: Any) -> Any:
            began, runtime = time.process_time(), self.seconds["ONNX Runtime"]
            try:
                return function(*arguments, **keywords)
            finally:
                inner = self.seconds["ONNX Runtime"] - runtime
                self.seconds[phase] += time.process_time() - began - (inner if phase != "ONNX Runtime" else 0.0)

        with mock.patch.object(owner, name, timed):
            yield


def job(family: str, nodes: int, recipe: str) -> dict[str, float]:
    """Run one job in this process."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        file = save(build(family, **FAMILIES[family](nodes)), Path(folder) / "model.onnx")[0]
        with (
            clock.timing(onnxruntime.InferenceSession, "__init__", "ONNX Runtime"),
            clock.timing(onnxruntime.InferenceSession, "run", "ONNX Runtime"),
            clock.timing(api, "open_job", "opening"),
            clock.timing(Manager, "run", "passes"),
            clock.timing(api, "deliver", "delivery"),
        ):
            graphpress.optimize(file, passes=recipe, output=Path(folder) / "out", threads=1)
        sizes = count_nodes(load(file)), count_nodes(load(Path(folder) / "out" / "model.onnx"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {**clock.seconds, "before": sizes[0], "after": sizes[1], "peak": peak}


def in_a_process(family: str, nodes: int, recipe: str) -> dict[str, float]:
    """The same in a process of its own, which nothing ran in before."""
    command = [sys.executable, __file__, "--job", family, str(nodes), recipe]
    return dict(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--sizes", default="4000,16000,64000")
    parser.add_argument("--recipe", default="cleanup", help="passes, as on the command line")
    parser.add_argument("--job", nargs=3, metavar=("FAMILY", "NODES", "RECIPE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        family, nodes, recipe = options.job
        print(json.dumps(job(family, int(nodes), recipe)))
        return
    header = ["graph", "nodes, before", "after", *PHASES[:3], "ours", "", "ONNX Runtime", "", "peak"]
    print(_row(header), _row(["---"] * len(header)), sep="\n")
    for family in options.families.split(","):
        before: tuple[float, float] | None = None
        for nodes in map(int, options.sizes.split(",")):
            measured = in_a_process(family, nodes, options.recipe)
            phases = [measured[phase] for phase in PHASES[:3]]
            ours, runtime = sum(phases), measured["ONNX Runtime"]
            growth = ["", ""] if before is None else [f"{ours / before[0]:.1f}x", f"{runtime / before[1]:.1f}x"]
            before = ours, runtime
            seconds = [f"{phase:.2f} s" for phase in (*phases, ours, runtime)]
            sizes = [f"{measured[which]:,.0f}" for which in ("before", "after")]
            peak = f"{measured['peak']:,.0f} MiB"
            print(_row([family, *sizes, *seconds[:4], growth[0], seconds[4], growth[1], peak]), flush=True)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
