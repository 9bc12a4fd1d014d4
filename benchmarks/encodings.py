"""Encodings of large weights: seconds to set, save and load them, bytes on disk, and memory that it takes.

    python benchmarks/encodings.py [--megabytes 1024]

One weight of 4096×4096 in int4 blocks of 32 (524,288 scales); then a chain of such weights of the given size, which a
fresh process loads, verifies and saves: what its memory has grown by at most, of all kinds, mapped files included.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from graphpress.ir import Editor, Model, Node, from_proto, load, save, verify
from graphpress.ir.encoding import AffineEncoding, encoding_of, read_encoding, set_codes, set_encoding

SIZE, BLOCK, OPSET = 4096, 32, 21
BYTES = SIZE * SIZE // 2 + SIZE * SIZE // BLOCK * 4
"""Of one weight: its codes, and its scales."""
READS = 100_000


def chain(layers: int) -> Model:
    """Products with a weight each, without the weights."""
    names = [f"x{index}" for index in range(layers + 1)]
    nodes = [
        helper.make_node("MatMul", [names[index], f"w{index}"], [names[index + 1]], name=f"layer{index}")
        for index in range(layers)
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, SIZE]) for name in (names[0], names[-1])]
    weights = [helper.make_tensor(f"w{index}", TensorProto.FLOAT, [1], [0.0]) for index in range(layers)]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.checker.check_model(model)
    return from_proto(model)


def encode(model: Model, name: str, seed: int) -> None:
    """Hold a weight as made-up codes."""
    random = np.random.default_rng(seed)
    value = model.graph.initializers[name]
    Editor(model).set_constant(value, np.broadcast_to(np.float32(0), (SIZE, SIZE)))
    scales = random.uniform(0.01, 1, (SIZE // BLOCK, SIZE))
    codes = random.integers(-8, 8, (SIZE, SIZE), np.int8)
    set_codes(value, codes, AffineEncoding("int4", scales, axis=0, block=BLOCK))


def seconds(work: Callable[[], object]) -> float:
    """Of one call, the best of three."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def one_weight(folder: Path) -> None:
    """Figures of a single weight."""
    model, file = chain(1), folder / "one.onnx"
    encode(model, "w0", 0)
    value, node = model.graph.initializers["w0"], model.graph[0]
    held, scales = encoding_of(value), np.random.default_rng(1).uniform(0.01, 1, (SIZE // BLOCK, SIZE))
    setting = seconds(lambda: set_encoding(value, AffineEncoding("int4", scales, axis=0, block=BLOCK)))
    set_encoding(value, held)
    print(f"set        {1e3 * setting:.2f} ms")
    print(f"verify     {1e3 * seconds(lambda: verify(model)):.2f} ms")
    print(f"save       {1e3 * seconds(lambda: save(model, file)):.0f} ms")
    print(f"load       {1e3 * seconds(lambda: load(file)):.0f} ms")
    written = file.stat().st_size
    print(f"bytes      {written}, of which {written - BYTES} are neither codes nor scales ({written / BYTES:.5f})")
    assert encoding_of(load(file).graph.initializers["w0"]) == held
    reading = seconds(lambda: [read_encoding(node, 1) for _ in range(READS)])
    print(f"read a use {1e9 * reading / READS:.0f} ns, {_bytes_allocated(node) / READS:.4f} bytes allocated")


def _bytes_allocated(node: Node) -> int:
    tracemalloc.start()
    for _ in range(READS):
        read_encoding(node, 1)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


def build(file: Path, layers: int) -> None:
    """Write the large model."""
    model = chain(layers)
    for index in range(layers):
        encode(model, f"w{index}", index)
    save(model, file)


def reload(file: Path) -> None:
    """Load, verify and save it; print by how many bytes this process has grown at most."""
    before = peak_bytes()
    model = load(file)
    verify(model)
    save(model, file.with_name("again.onnx"))
    print(peak_bytes() - before)


def peak_bytes() -> int:
    """The most memory that this process has had resident."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def large_model(folder: Path, megabytes: int) -> None:
    """Figures of many weights, each step in a process of its own."""
    file, layers = folder / "large.onnx", -(-megabytes * 2**20 // BYTES)
    command = [sys.executable, __file__, "--file", str(file), "--layers", str(layers)]
    subprocess.run([*command, "--step", "build"], check=True)
    parts = list(folder.glob("large.onnx.data")) or [file]
    size = sum(part.stat().st_size for part in folder.glob("large.onnx*"))
    grown = int(subprocess.run([*command, "--step", "reload"], check=True, capture_output=True, text=True).stdout)
    same = all(part.read_bytes() == (folder / part.name.replace("large", "again")).read_bytes() for part in parts)
    print(
        f"large      {size / 1e9:.3f} GB in {layers} weights: {grown / 1e9:.3f} GB of memory, {grown / size:.2f} of it"
    )
    print(f"           saved again: {'the same' if same else 'other'} bytes")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--step", choices=["build", "reload"], help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--layers", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step == "build":
        build(options.file, options.layers)
    elif options.step == "reload":
        reload(options.file)
    else:
        with tempfile.TemporaryDirectory() as folder:
            one_weight(Path(folder))
            large_model(Path(folder), options.megabytes)


if __name__ == "__main__":
    main()
