"""Matrix products with integer weights under float activations: the TVM backend beside ONNX Runtime's MatMulNBits.

    python benchmarks/tvm_gemv.py [--size 4096] [--rows 1 4 16]

One thread, milliseconds of processor time, medians of interleaved calls over layers whose weights fit no cache
together. ONNX Runtime is asked twice: with activations in float32 (accuracy level 0), which is the arithmetic of the
kernel here, and rounded to int8 (level 4), which is what it does with a Q/DQ model by default.
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
from onnx import TensorProto, helper, numpy_helper

from graphpress.analysis.shapes import infer_shapes
from graphpress.backends.tvm.artifact import write_library
from graphpress.backends.tvm.lowering.lower import lower
from graphpress.backends.tvm.processor import isa_of
from graphpress.ir import from_proto
from graphpress.manager.contract import Context
from graphpress.passes.quantize.quantize_weights import QuantizeWeights
from graphpress.runtime import CompiledModel
from graphpress.targets import load_target

LAYERS, BLOCK, CALLS = 4, 32, 15
FLOATS, CODES = 0, 4
"""Accuracy levels of MatMulNBits."""


def main() -> None:
    """Print a line for each number of rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=4096, help="inputs and outputs of a layer")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 4, 16])
    options = parser.parse_args()
    print(f"| rows of {options.size} x {options.size}, int4 | ms | MatMulNBits, floats | MatMulNBits, int8 |")
    print("|---|---|---|---|")
    for rows in options.rows:
        x = np.random.default_rng(0).standard_normal((rows, options.size)).astype(np.float32)
        calls = [_ours(options.size, rows, x), *(_peer(options.size, rows, x, level) for level in (FLOATS, CODES))]
        times = [median(column) / LAYERS for column in zip(*(map(_seconds, calls) for _ in range(CALLS)), strict=True)]
        print(f"| {rows} | {' | '.join(f'{1e3 * seconds:.2f}' for seconds in times)} |", flush=True)


def _seconds(call: Callable[[], object]) -> float:
    start = time.thread_time()
    call()
    return time.thread_time() - start


def _ours(size: int, rows: int, x: np.ndarray) -> Callable[[], object]:
    rng = np.random.default_rng(0)
    weights = [(rng.standard_normal((size, size)) / np.sqrt(size)).astype(np.float32) for _ in range(LAYERS)]
    names = ["x", *(f"h{layer}" for layer in range(LAYERS - 1)), "y"]
    nodes = [helper.make_node("MatMul", [names[layer], f"w{layer}"], [names[layer + 1]]) for layer in range(LAYERS)]
    constants = [numpy_helper.from_array(array, f"w{layer}") for layer, array in enumerate(weights)]
    graph = helper.make_graph(nodes, "layers", *_ports(rows, size), constants)
    model = from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))
    infer_shapes(model)
    target = load_target("cpu")
    QuantizeWeights(block_size=BLOCK).run(model, Context(target=target, original=model))
    isa = isa_of(target)
    with tempfile.TemporaryDirectory() as folder:
        write_library(lower(model, isa), isa, Path(folder))
        compiled = CompiledModel(Path(folder), 1)
    return lambda: compiled.run({"x": x})


def _peer(size: int, rows: int, x: np.ndarray, level: int) -> Callable[[], object]:
    rng = np.random.default_rng(0)
    names = ["x", *(f"h{layer}" for layer in range(LAYERS - 1)), "y"]
    nodes, constants = [], []
    for layer in range(LAYERS):
        codes = rng.integers(0, 256, (size, size // BLOCK, BLOCK // 2), dtype=np.uint8)
        scales = (rng.random(size * size // BLOCK) / 100).astype(np.float32)
        constants += [numpy_helper.from_array(codes, f"w{layer}"), numpy_helper.from_array(scales, f"s{layer}")]
        numbers = {"K": size, "N": size, "bits": 4, "block_size": BLOCK, "accuracy_level": level}
        inputs, outputs = [names[layer], f"w{layer}", f"s{layer}"], [names[layer + 1]]
        nodes.append(helper.make_node("MatMulNBits", inputs, outputs, domain="com.microsoft", **numbers))
    graph = helper.make_graph(nodes, "layers", *_ports(rows, size), constants)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), settings)
    return lambda: session.run(None, {"x": x})


def _ports(rows: int, size: int) -> tuple[list[object], list[object]]:
    return (
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, size])],
    )


if __name__ == "__main__":
    main()
