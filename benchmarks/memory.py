"""Peak memory of a whole run, in bytes per byte of weights.

    python benchmarks/memory.py [--sizes 0.4 1 3.1] [--operators MatMul Conv] [--folder FOLDER] [--program OPTIMIZE]

Models are chains of large products or convolutions with random weights, embedded in the model file (below 2 GB) or in
external data. Each is optimized by the command line in a child process, with ``cleanup`` and with ``int8``.

*Peak* is the largest resident memory of a process (what ``/usr/bin/time -v`` calls maximum resident set size); pages of
mapped files, which the system can drop at any time, count as much as others. *Private* is the largest sum of what is
the processes' own, looked at twenty times a second.
"""

from __future__ import annotations

import argparse
import itertools
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from onnx import TensorProto, helper

SAMPLES = 16
SHAPES = {"MatMul": (4096, 4096), "Conv": (1024, 1024, 3, 3)}
INPUTS = {"MatMul": (4096,), "Conv": (1024, 4, 4)}
PERIOD_SECONDS = 0.05
LARGEST_MESSAGE = 2.0
"""Gigabytes that a model file itself can hold."""


class Peak(NamedTuple):
    """Bytes of a run at its worst, and its seconds."""

    resident: int
    private: int
    seconds: float


def build(file: Path, operator: str, gigabytes: float, external: bool) -> int:
    """Write a model and samples for it (``.npz``); how many bytes its weights have."""
    random, shape = np.random.default_rng(0), SHAPES[operator]
    block = random.standard_normal(shape, np.float32) / np.sqrt(np.prod(shape[1:]), dtype=np.float32)
    count = round(gigabytes * 1e9 / block.nbytes)
    nodes, tensors, name = [], [], "x"
    data = file.with_name(f"{file.name}.data")
    with data.open("wb") as outside:
        for index in range(count):
            raw = np.roll(block, 7 * index + 1, axis=0).tobytes()
            tensor = TensorProto(name=f"w{index}", data_type=TensorProto.FLOAT, dims=shape)
            if external:
                outside.write(raw)
                tensor.data_location = TensorProto.EXTERNAL
                place = {"location": data.name, "offset": index * len(raw), "length": len(raw)}
                for key, value in place.items():
                    tensor.external_data.add(key=key, value=str(value))
            else:
                tensor.raw_data = raw
            tensors.append(tensor)
            padding = {"pads": [1, 1, 1, 1]} if operator == "Conv" else {}
            nodes += [
                helper.make_node(operator, [name, tensor.name], [f"p{index}"], **padding),
                helper.make_node("Relu", [f"p{index}"], [f"r{index}"]),
                helper.make_node("Identity", [f"r{index}"], [f"y{index}"]),
            ]
            name = f"y{index}"
    values = [helper.make_tensor_value_info(each, TensorProto.FLOAT, ["N", *INPUTS[operator]]) for each in ("x", name)]
    graph = helper.make_graph(nodes, "large", values[:1], values[1:], tensors)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    file.write_bytes(proto.SerializeToString())
    if not external:
        data.unlink()
    np.savez(file.with_suffix(".npz"), x=random.standard_normal((SAMPLES, *INPUTS[operator]), np.float32))
    return count * block.nbytes


def measure(command: list[str]) -> Peak:
    """Run a command to its end."""
    began, private = time.perf_counter(), 0
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while child.poll() is None:
        private = max(private, sum(map(_private, _family(child.pid))))
        time.sleep(PERIOD_SECONDS)
    if child.returncode:
        raise SystemExit(child.stderr.read() if child.stderr else f"{command} failed")
    resident = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return Peak(resident, private, time.perf_counter() - began)


def _family(process: int) -> Iterator[int]:
    yield process
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:  # it has ended
        return
    for child in children:
        yield from _family(int(child))


def _private(process: int) -> int:
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return 0
    return 1024 * sum(int(size) for size in re.findall(r"^Private_\w+: +(\d+)", text, re.MULTILINE))


def row(program: str, file: Path, recipe: str, weights: int) -> str:
    """Figures of one line of the table."""
    data = ["--data", str(file.with_suffix(".npz"))] if recipe == "int8" else []
    output = ["--output", str(file.with_name("out")), "--max-drop", "none", "--allow-worse", "--force"]
    peak = measure([program, str(file), "--recipe", recipe, *data, *output])
    return f"{recipe} | {peak.resident / weights:.2f} | {peak.private / weights:.2f} | {peak.seconds:.0f} s |"


def step(name: str, *arguments: str) -> str:
    """Build a model or measure a run in a process of its own: the system keeps one peak for all children, and counts
    what their parent held when it started them.
    """
    command = [sys.executable, __file__, "--step", name, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=float, nargs="+", default=[0.4, 1.0, 3.1], help="gigabytes of weights")
    parser.add_argument("--operators", nargs="+", choices=sorted(SHAPES), default=["MatMul", "Conv"])
    parser.add_argument("--recipes", nargs="+", default=["cleanup", "int8"])
    parser.add_argument("--folder", help="where the models are written; needs three times their size")
    parser.add_argument("--program", default="optimize")
    parser.add_argument("--step", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step is not None:
        name, *arguments = options.step
        if name == "build":
            file, operator, size, place = arguments
            print(build(Path(file), operator, float(size), place == "external"))
        else:
            program, file, recipe, weights = arguments
            print(row(program, Path(file), recipe, int(weights)))
        return
    print("| weights | operator | place | recipe | peak | private | time |\n|---|---|---|---|---|---|---|", flush=True)
    for size, operator, place in itertools.product(options.sizes, options.operators, ["embedded", "external"]):
        if place == "embedded" and size >= LARGEST_MESSAGE:
            continue
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            file = str(Path(folder) / "model.onnx")
            weights = step("build", file, operator, str(size), place)
            for recipe in options.recipes:
                figures = step("measure", options.program, file, recipe, weights)
                print(f"| {int(weights) / 1e9:.1f} GB | {operator} | {place} | {figures}", flush=True)


if __name__ == "__main__":
    main()
