"""Matrix products with integer weights under float activations: the TVM backend beside ONNX Runtime's MatMulNBits.

    python benchmarks/tvm_gemv.py [--size 4096] [--bits 4 8] [--block 32] [--rows 1 4 16] [--threads 1 2]

Both run the same MatMulNBits nodes, twice: with activations in floats (accuracy level 0), and rounded to eight bits in
blocks (level 4), which ONNX Runtime makes of a Q/DQ model by default. Milliseconds of a layer by the clock, medians of
interleaved calls over layers whose weights fit no cache together.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

# The folder of a script comes first in the search path, where tvm.py would hide the package of the same name.
sys.path.append(sys.path.pop(0))

import numpy as np
import onnxruntime
from onnx import ModelProto, TensorProto, helper, numpy_helper

from graphpress.analysis.shapes import infer_shapes
from graphpress.backends.tvm.artifact import write_library
from graphpress.backends.tvm.lowering.lower import lower
from graphpress.backends.tvm.processor import isa_of
from graphpress.ir import from_proto
from graphpress.runtime import CompiledModel
from graphpress.targets import load_target

LAYERS, CALLS = 12, 15
FLOATS, CODES = 0, 4
"""Accuracy levels of MatMulNBits."""


def main() -> None:
    """Print a line for each number of bits, rows and threads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=4096, help="inputs and outputs of a layer")
    parser.add_argument("--bits", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--block", type=int, default=32, help="inputs that share a scale")
    parser.add_argument("--zero-points", action="store_true", help="a zero-point for each block")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    print(f"| {options.size} x {options.size}: bits | rows | threads | floats | MatMulNBits | int8 | MatMulNBits |")
    print("|---|---|---|---|---|---|---|")
    for bits in options.bits:
        for rows in options.rows:
            for threads in options.threads:
                print(f"| {bits} | {rows} | {threads} | {_line(options, bits, rows, threads)} |", flush=True)


def _line(options: argparse.Namespace, bits: int, rows: int, threads: int) -> str:
    x = np.random.default_rng(0).standard_normal((rows, options.size)).astype(np.float32)
    calls = []
    for level in (FLOATS, CODES):
        proto = _layers(options, bits, rows, level)
        calls += [_ours(proto, x, threads), _peer(proto, x, threads)]
    times = [median(column) / LAYERS for column in zip(*(map(_seconds, calls) for _ in range(CALLS)), strict=True)]
    return " | ".join(f"{1e3 * seconds:.3f}" for seconds in times)


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _layers(options: argparse.Namespace, bits: int, rows: int, level: int) -> ModelProto:
    """Products one behind the other, at an accuracy level."""
    rng, size, block = np.random.default_rng(0), options.size, options.block
    names = ["x", *(f"h{layer}" for layer in range(LAYERS - 1)), "y"]
    numbers = {"K": size, "N": size, "bits": bits, "block_size": block, "accuracy_level": level}
    nodes, constants = [], []
    for layer in range(LAYERS):
        arrays = {
            "w": rng.integers(0, 256, (size, size // block, block * bits // 8), dtype=np.uint8),
            "s": (rng.random(size * size // block) / 1000).astype(np.float32),
        }
        if options.zero_points:
            arrays["z"] = rng.integers(0, 256, (size, size // block * bits // 8), dtype=np.uint8)
        constants += [numpy_helper.from_array(array, f"{name}{layer}") for name, array in arrays.items()]
        inputs, outputs = [names[layer], *(f"{name}{layer}" for name in arrays)], [names[layer + 1]]
        nodes.append(helper.make_node("MatMulNBits", inputs, outputs, domain="com.microsoft", **numbers))
    ports = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [rows, size])] for name in "xy"]
    graph = helper.make_graph(nodes, "layers", *ports, constants)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def _ours(proto: ModelProto, x: np.ndarray, threads: int) -> Callable[[], object]:
    model, isa = from_proto(proto), isa_of(load_target("cpu"))
    infer_shapes(model)
    with tempfile.TemporaryDirectory() as folder:
        write_library(lower(model, isa, threads), isa, Path(folder))
        compiled = CompiledModel(Path(folder), threads)
    return lambda: compiled.run({"x": x})


def _peer(proto: ModelProto, x: np.ndarray, threads: int) -> Callable[[], object]:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(proto.SerializeToString(), settings)
    return lambda: session.run(None, {"x": x})


if __name__ == "__main__":
    main()
