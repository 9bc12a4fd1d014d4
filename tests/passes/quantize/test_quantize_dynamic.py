"""Ranges found at run time: which products, what they compute, in which kernels, and what is left alone."""

import re
from dataclasses import replace

import numpy as np
import pytest

from graphpress.backend import CompileOptions
from graphpress.backends.onnxruntime.backend import OnnxRuntimeBackend
from graphpress.ir import clone
from graphpress.ir.encoding import compute_requests, dynamic_encoding, encoding_of, read_encoding
from graphpress.manager.contract import Context
from graphpress.passes.quantize.quantize_dynamic import QuantizeDynamic
from graphpress.runtime import Session
from graphpress.targets import load_target

INTEGER = {"DynamicQuantizeMatMul", "MatMulIntegerToFloat", "MatMulInteger"}
BODIES = {
    "product": ("(float[4,32] x) => (float[4,24] y)", "y = MatMul(x, w)", False),
    "product with a bias": ("(float[4,32] x) => (float[4,24] y)", "m = MatMul(x, w) y = Add(m, b)", False),
    "of tokens": ("(float[N,L,32] x) => (float[N,L,24] y)", "m = MatMul(x, w) y = Add(b, m)", False),
    "Gemm": ("(float[4,32] x) => (float[4,24] y)", "y = Gemm(x, w, b)", False),
    "turned Gemm": ("(float[4,32] x) => (float[4,24] y)", "y = Gemm<transB=1>(x, w, b)", True),
    "turned at run time": ("(float[4,32] x) => (float[4,24] y)", "t = Transpose<perm=[1,0]>(w) y = MatMul(x, t)", True),
}
TWO = "(float[4,32] x) => (float[4,24] y, float[4,24] z) { y = MatMul(x, w) z = MatMul(x, v) }"


def made(build, weights, header, body, turned):
    weight = weights.of(32, 24)
    constants = {"b": weights.of(24)} if "b" in body else {}
    return build(f"{header} {{ {body} }}", w=weight.T.copy() if turned else weight, **constants)


def reference(x, weight, bias):
    """In float64, with the codes of DynamicQuantizeLinear and of symmetric weights."""
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    scale = np.float32(np.float32(high - low) / np.float32(255))
    zero = np.rint(np.clip(-low / scale, 0, 255))
    codes = np.clip(np.rint(x / scale) + zero, 0, 255) - zero
    steps = np.abs(weight).max(0).astype(np.float64) / 127
    return codes * float(scale) @ (np.rint(weight / steps) * steps) + bias


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_integers_by_the_range_of_each_call(build, weights, quantize, tmp_path, body):
    model = made(build, weights, *body)
    done = quantize(model, one=QuantizeDynamic())
    assert done.outcome.changes == 1
    kernels = done.kernels(tmp_path)
    assert INTEGER & set(kernels)
    assert not {"MatMul", "Gemm"} & set(kernels)
    bias = weights.of(24) if "b" in body[1] else 0
    for feed in done.feeds:
        for factor in (1, 100):  # a range that was never seen
            x = feed["x"] * np.float32(factor)
            result = Session(done.legal()).run({"x": x})["y"]
            np.testing.assert_allclose(result, reference(x, weights.of(32, 24), bias), rtol=1e-4, atol=1e-4 * factor)


def test_products_of_one_value_share_its_range(build, weights, quantize):
    done = quantize(build(TWO, w=weights.of(32, 24), v=weights.of(32, 24, seed=1)), one=QuantizeDynamic())
    assert [node.op_type for node in done.legal().graph].count("DynamicQuantizeLinear") == 1
    assert all(done.read(name, 0) == dynamic_encoding("uint8") for name in "yz")
    assert encoding_of(done.value("x")) is None


def test_it_needs_no_data_and_runs_once(build, weights):
    model = made(build, weights, *BODIES["Gemm"])
    context = Context(target=load_target("cpu"), original=clone(model))
    assert QuantizeDynamic().refuse(model, context) is None
    assert QuantizeDynamic().run(model, context).changes == 1
    assert QuantizeDynamic().run(model, context).changes == 0


def test_one_scale_a_tensor_where_that_is_asked_for(build, weights, quantize):
    done = quantize(made(build, weights, *BODIES["product"]), one=QuantizeDynamic(per_channel=False))
    assert read_encoding(done.node("y"), 1).axis is None


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("y = MatMul(x, c)", "its weight is computed at run time"),
        ("y = Gemm<alpha=0.5>(x, w)", "alpha, beta, transA"),
        ("h = Unsqueeze(x, axes) c1 = Conv(h, k) y = Squeeze(c1, axes)", "no kernel of this target finds the range"),
    ],
)
def test_what_stays_float_is_named(build, weights, quantize, body, why):
    text = f"(float[2,4] x, float[4,4] c) => (float[2,4] y) {{ {body} }}"
    constants = {"w": weights.of(4, 4), "k": weights.of(2, 2, 1), "axes": np.array([0])}
    model = build(text, **{name: array for name, array in constants.items() if name in body})
    done = quantize(model, one=QuantizeDynamic())
    assert done.outcome.changes == 0
    assert any(why in reason for reason in done.refused.values()) or (why == "its weight is computed at run time")


def test_excluded_products_stay_float(build, weights, quantize):
    done = quantize(made(build, weights, *BODIES["product"]), one=QuantizeDynamic(), exclude=re.compile("."))
    assert done.outcome.changes == 0


def test_a_target_without_such_kernels_refuses(build, weights):
    target = load_target("cpu")
    none = replace(target, quantization=replace(target.quantization, dynamic_ops=()))
    model = made(build, weights, *BODIES["product"])
    refusal = QuantizeDynamic().refuse(model, Context(target=none, original=model))
    assert refusal is not None
    assert "no kernels that find ranges" in refusal.why


@pytest.mark.parametrize("body", [BODIES["of tokens"], BODIES["Gemm"]], ids=["of tokens", "Gemm"])
def test_what_became_of_a_product_is_told_by_its_name(build, weights, quantize, tmp_path, body):
    done = quantize(made(build, weights, *body), one=QuantizeDynamic())
    (asked,) = compute_requests(done.model)
    backend, target = OnnxRuntimeBackend(), load_target("cpu")
    artifact = backend.compile(backend.prepare(done.model, target), CompileOptions(target=target), tmp_path)
    assert artifact.findings().became[asked] == "int8"
