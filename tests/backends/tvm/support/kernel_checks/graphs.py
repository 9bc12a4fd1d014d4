"""Whole graphs, compiled, beside ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx.numpy_helper
import onnx.parser

from graphpress.analysis.shapes import infer_shapes
from graphpress.backends.tvm.artifact import write_library
from graphpress.backends.tvm.board.served import ServedModel
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.lowering.lower import lower
from graphpress.backends.tvm.processor import runs_natively
from graphpress.ir import Model, from_proto
from graphpress.runtime import CompiledModel, Session


def graph(text: str, opset: int = 21, **weights: np.ndarray) -> Model:
    """A model of its text, with initializers that text need not spell."""
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": {opset}]> g {text}')
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in weights.items())
    model = from_proto(proto)
    infer_shapes(model)
    return model


def compiled_outputs(
    model: Model, feed: Mapping[str, np.ndarray], isa: Isa, folder: Path, threads: int = 1
) -> dict[str, np.ndarray]:
    """What the compiled model gives, on this processor or in an emulator."""
    program = lower(model, isa, threads)
    write_library(program, isa, folder)
    runner = CompiledModel(folder, threads) if runs_natively(isa) else ServedModel(folder, isa, threads)
    return runner.run(feed)


def assert_like_onnxruntime(
    model: Model, feed: Mapping[str, np.ndarray], isa: Isa, folder: Path, threads: int = 1, tolerance: float = 1e-4
) -> None:
    """Types and shapes are the same, and numbers within a tolerance of the largest."""
    results = compiled_outputs(model, feed, isa, folder, threads)
    for name, expected in Session(model).run(feed).items():
        assert results[name].dtype == expected.dtype
        scale = max(1e-6, float(np.abs(expected).max(initial=0)))
        np.testing.assert_allclose(results[name], expected, rtol=0, atol=tolerance * scale, err_msg=name)
