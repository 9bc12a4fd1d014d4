"""Never-worse verdicts on a busy machine: how often a copy is called slower, and how often what is slower is found.

    python benchmarks/verdicts.py --busy 2 --copies 50 --slower 20

Every comparison is that of the main job: pairs of fresh sessions, until nothing depends on more of them. Beside it
stands what a single pair of sessions says, as long as the interval of its rounds is all that is known.
The slower model is the same with a fifth more of the same layers. The last two rows are for models that load slowly, of
which each pair may be the last.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from graphpress.manager.gate import SLOWER, Comparison
from graphpress.runtime import PairedTiming, Session, compare_latency, over_pairs, renew
from graphpress.runtime.pairs import LONG_LOADING

LAYERS, CHANNELS, IMAGE = 20, 32, 16
LIMIT_SECONDS = 60.0


def chain(layers: int, file: Path) -> Path:
    """So many convolutions in a row, all of one size."""
    random = np.random.default_rng(0)
    weight = (random.normal(size=(CHANNELS, CHANNELS, 3, 3)) / (9 * CHANNELS) ** 0.5).astype(np.float32)
    nodes = [
        helper.make_node("Conv", [f"x{layer}", f"w{layer}"], [f"x{layer + 1}"], pads=[1] * 4) for layer in range(layers)
    ]
    shape = [1, CHANNELS, IMAGE, IMAGE]
    inputs, outputs = ([helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)] for name in ("x0", f"x{layers}"))
    weights = [numpy_helper.from_array(weight, f"w{layer}") for layer in range(layers)]
    graph = helper.make_graph(nodes, "chain", inputs, outputs, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)
    return file


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """So many processes that do nothing but compute."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()


def compare(a: Path, b: Path, threads: int, loading: float) -> tuple[PairedTiming, PairedTiming]:
    """What the first pair of sessions says, and what the verdict rests on where a pair takes so long to load."""
    sessions = Session(a, threads=threads), Session(b, threads=threads)
    feed = {"x0": np.random.default_rng(1).normal(size=(1, CHANNELS, IMAGE, IMAGE)).astype(np.float32)}
    first: list[PairedTiming] = []

    def pair(number: int) -> PairedTiming:
        if number:
            renew(*sessions)
            sessions[number % 2].run(feed)
        timing = compare_latency(lambda: sessions[0].run(feed), lambda: sessions[1].run(feed))
        first.append(timing)
        return timing

    size = Comparison(None, 1, 1)
    joint = over_pairs(pair, lambda timing: replace(size, timing=timing).is_settled, LIMIT_SECONDS, loading=loading)
    return first[0], joint


def row(name: str, a: Path, b: Path, count: int, threads: int, loading: float) -> str:
    """A row of the table."""
    began, results = time.perf_counter(), [compare(a, b, threads, loading) for _ in range(count)]
    seconds = (time.perf_counter() - began) / max(1, count)
    single, joint = ([pair[index] for pair in results] for index in range(2))
    slower = [sum(timing.low > SLOWER for timing in timings) for timings in (single, joint)]
    spread = np.std(np.log([timing.ratio for timing in single]))
    ratio = np.median([timing.ratio for timing in joint])
    return (
        f"| {name} | {slower[0]} of {count} | {slower[1]} of {count} | {ratio:.3f} | {100 * spread:.1f} % "
        f"| {np.mean([timing.pairs for timing in joint]):.1f} | {seconds:.1f} |"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--busy", type=int, default=2, help="processes that compute beside it")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--copies", type=int, default=50)
    parser.add_argument("--slower", type=int, default=20)
    options = parser.parse_args()
    with TemporaryDirectory() as folder, busy(options.busy):
        model, slower = (chain(layers, Path(folder, f"{layers}.onnx")) for layers in (LAYERS, LAYERS * 6 // 5))
        copy = Path(copyfile(model, Path(folder, "copy.onnx")))
        print("| result | slower by one pair | slower | ratio (median) | spread of pairs | pairs | s each |")
        print("|---|---|---|---|---|---|---|")
        for loading, words in ((0.0, ""), (2 * LONG_LOADING, ", loads slowly")):
            for name, result, count in (
                ("its own copy", copy, options.copies),
                ("1.2 times the work", slower, options.slower),
            ):
                print(row(name + words, model, result, count, options.threads, loading), flush=True)
