"""Functions between quantizers are tables: the codes are those of ONNX Runtime, and floats stay floats."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
from kernel_checks.graphs import compiled_outputs, graph

from graphpress.backends.onnxruntime.backend import OnnxRuntimeBackend
from graphpress.backends.tvm.kernels.stages import LookUp
from graphpress.backends.tvm.lowering.lower import lower
from graphpress.ir import clone
from graphpress.manager.contract import Context
from graphpress.passes.quantize.quantize import Quantize
from graphpress.runtime import Session
from graphpress.targets import load_target

FUNCTIONS = {
    "SiLU": "s = Sigmoid (c) f = Mul (c, s)",
    "HardSwish": "f = HardSwish (c)",
    "Tanh, then a limit": "t = Tanh (c) low = Constant <value_float=-0.5> () f = Clip (t, low)",
    "Elu": "f = Elu (c)",
}

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


def network(function: str):
    """A function between two convolutions, and samples."""
    rng = np.random.default_rng(0)
    text = f"""(float[1,16,9,9] x) => (float[1,20,9,9] y) {{
        c = Conv <pads=[1,1,1,1]> (x, w0, b0)
        {function}
        y = Conv (f, w1, b1)
    }}"""
    shapes = {"w0": (40, 16, 3, 3), "b0": (40,), "w1": (20, 40, 1, 1), "b1": (20,)}
    weights = {name: rng.standard_normal(shape).astype(np.float32) / 8 for name, shape in shapes.items()}
    return graph(text, **weights), {"x": rng.standard_normal((1, 16, 9, 9)).astype(np.float32)}


def quantized(model, feed, isa):
    """The model in int8, and as ONNX Runtime gets it."""
    target = load_target("cpu")
    policy = replace(target.quantization, reduced_range=isa.dot.largest_weight < 127)
    target = replace(target, quantization=policy)
    copy = clone(model)
    Quantize().run(copy, Context(target=target, original=model, calibration=[feed]))
    return copy, OnnxRuntimeBackend().prepare(copy, target).delivered


def looks_up(model, isa) -> bool:
    """Whether a kernel maps codes by a table."""
    return any(LookUp() in getattr(step.kernel, "stages", ()) for step in lower(model, isa).steps)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_of_codes_is_a_table(name, newest, tmp_path):
    model, feed = network(FUNCTIONS[name])
    codes, delivered = quantized(model, feed, newest)
    assert looks_up(codes, newest)
    assert not looks_up(model, newest)
    expected = Session(delivered).run(feed)["y"]
    np.testing.assert_allclose(compiled_outputs(codes, feed, newest, tmp_path)["y"], expected, rtol=0, atol=1e-6)


def test_limits_alone_are_no_function(newest):
    model, feed = network(
        "zero = Constant <value_float=0.0> () six = Constant <value_float=0.6> () f = Clip (c, zero, six)"
    )
    assert not looks_up(quantized(model, feed, newest)[0], newest)
