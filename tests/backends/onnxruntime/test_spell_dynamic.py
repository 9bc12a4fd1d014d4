"""Products of integers whose range is found at run time, against the decoded ones."""

import numpy as np
import pytest
from text_models import model_of

from graphpress.backends.onnxruntime.spell_dynamic import spell_dynamic_products
from graphpress.ir import clone, verify
from graphpress.ir.qdq import materialize_qdq
from graphpress.runtime import Session

RANDOM = np.random.default_rng(0)
CODES = RANDOM.integers(-127, 128, (16, 8), dtype=np.int8)
SCALE = np.geomspace(0.01, 1, 8).astype(np.float32)
TEXT = """(float[3,16] x) => (float[3,8] y) {{
    q, s, z = DynamicQuantizeLinear (x)
    d = DequantizeLinear ({data})
    w = DequantizeLinear <axis={axis}> (codes, scale, zero)
    {product}
}}"""
PRODUCTS = {
    "MatMul": (1, "y = MatMul (d, w)"),
    "Gemm": (1, "y = Gemm (d, w, bias)"),
    "turned Gemm": (0, "y = Gemm <transB=1> (d, w, bias)"),
    "turned": (0, "t = Transpose <perm=[1,0]> (w) y = MatMul (d, t)"),
}


def product(axis, text, data="q, s, z", zero=0):
    codes = CODES if axis else np.ascontiguousarray(CODES.T)
    bias = {"bias": RANDOM.normal(size=8).astype(np.float32)} if "bias" in text else {}
    zeros = np.full(8, zero, np.int8)
    model = model_of(TEXT.format(data=data, axis=axis, product=text), codes=codes, scale=SCALE, zero=zeros, **bias)
    materialize_qdq(model)
    return model


@pytest.mark.parametrize(("axis", "text"), PRODUCTS.values(), ids=PRODUCTS.keys())
def test_the_integers_are_multiplied(axis, text):
    before = product(axis, text)
    after = clone(before)
    assert spell_dynamic_products(after) == 1
    verify(after)
    operators = {node.op_type for node in after.graph}
    assert "MatMulInteger" in operators
    assert not operators & {"MatMul", "Gemm", "DequantizeLinear"}
    feed = {"x": RANDOM.normal(size=(3, 16)).astype(np.float32)}
    plain = Session(before, optimization="none").run(feed)["y"]
    np.testing.assert_allclose(Session(after).run(feed)["y"], plain, rtol=1e-5, atol=1e-5)
    assert spell_dynamic_products(after) == 0


def test_weights_with_a_zero_point_stay_as_they_are():
    assert spell_dynamic_products(product(*PRODUCTS["MatMul"], zero=3)) == 0


def test_data_that_is_decoded_otherwise_stays_as_it_is():
    assert spell_dynamic_products(product(*PRODUCTS["MatMul"], data="q, s")) == 0


@pytest.mark.parametrize("attributes", ["alpha=0.5", "beta=2.0", "alpha=1.0, transA=1"])
def test_a_gemm_that_does_more_than_multiply_stays_as_it_is(attributes):
    text = f"t = Transpose <perm=[1,0]> (d) y = Gemm <{attributes}> ({'t' if 'transA' in attributes else 'd'}, w, bias)"
    assert spell_dynamic_products(product(1, text)) == 0
