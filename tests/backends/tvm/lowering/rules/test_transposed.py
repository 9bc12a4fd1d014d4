"""Transposed convolutions of codes: the same codes as ONNX Runtime, which computes them in floats."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

pytest.importorskip("tvm", reason="needs graphpress[tvm]")

from kernel_checks.graphs import compiled_outputs, graph

from graphpress.backends.tvm.kernels.product import Product
from graphpress.backends.tvm.lowering.lower import lower
from graphpress.ir import clone
from graphpress.ir.qdq import import_qdq
from graphpress.runtime import Session

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")

FLOATS, CODES = "", "b = DequantizeLinear <axis=0> (b_codes, b_scale)"
CASES = {
    "by two": ("strides=[2,2], pads=[1,0,1,1]", (6, 20, 3, 3), CODES),
    "gaps": ("strides=[2,3]", (6, 5, 1, 2), FLOATS),
    "apart": ("strides=[2,3], dilations=[2,2], output_padding=[1,2]", (6, 5, 3, 3), FLOATS),
    "groups": ("strides=[2,2], group=3", (6, 2, 4, 4), CODES),
}


@pytest.mark.parametrize("case", CASES)
def test_codes_are_those_of_onnxruntime(case, newest, tmp_path):
    attributes, shape, bias = CASES[case]
    rng, groups = np.random.default_rng(0), 3 if "group" in attributes else 1
    w_scale = rng.uniform(2e-3, 5e-3, shape[1]).astype(np.float32)
    b_scale = np.float32(0.0355) * np.tile(w_scale, groups)
    b_codes = rng.integers(-9000, 9000, len(b_scale)).astype(np.int32)
    arrays = {"b_codes": b_codes, "b_scale": b_scale} if bias else {"b": b_codes.astype(np.float32) * b_scale}
    model = graph(
        f"""(float[2,6,7,9] x) => (y) {{
            x_codes = QuantizeLinear (x, x_scale, x_zero)
            x_numbers = DequantizeLinear (x_codes, x_scale, x_zero)
            w = DequantizeLinear <axis=1> (w_codes, w_scale)
            {bias}
            c = ConvTranspose <{attributes}> (x_numbers, w, b)
            r = Relu (c)
            r_codes = QuantizeLinear (r, r_scale, r_zero)
            r_numbers = DequantizeLinear (r_codes, r_scale, r_zero)
            y = Identity (r_numbers)
        }}""",
        w_codes=rng.integers(-127, 128, shape).astype(np.int8),
        w_scale=w_scale,
        **arrays,
        **{"x_scale": np.float32(0.0355), "x_zero": np.uint8(117), "r_scale": np.float32(0.03), "r_zero": np.uint8(9)},
    )
    feed = {"x": rng.standard_normal((2, 6, 7, 9)).astype(np.float32)}
    expected = Session(model).run(feed)["y"]
    codes = clone(model)
    import_qdq(codes)
    products = [step.kernel for step in lower(codes, newest).steps if isinstance(step.kernel, Product)]
    assert products
    assert all(product.integer for product in products)
    result = compiled_outputs(codes, feed, newest, tmp_path)["y"]
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)


def test_what_is_read_in_codes_but_multiplied_in_floats_is_rounded(newest, tmp_path):
    """Another reader wants the floats that were not; both have their own, and the halo in which they are read."""
    text = """(float[1,6,7,9] x) => (y, z) {
        f = Tanh (x)
        f_codes = QuantizeLinear (f, scale, zero)
        f_numbers = DequantizeLinear (f_codes, scale, zero)
        y = Conv <pads=[1,1,1,1]> (f_numbers, w)
        z = Conv <pads=[1,1,1,1]> (f, w)
    }"""
    weights = np.random.default_rng(0).standard_normal((5, 6, 3, 3)).astype(np.float32)
    model = graph(text, w=weights, scale=np.float32(0.05), zero=np.uint8(120))
    feed = {"x": np.random.default_rng(1).standard_normal((1, 6, 7, 9)).astype(np.float32)}
    expected = Session(model).run(feed)
    codes = clone(model)
    import_qdq(codes)
    for name, result in compiled_outputs(codes, feed, newest, tmp_path).items():
        np.testing.assert_allclose(result, expected[name], rtol=0, atol=1e-5, err_msg=name)
