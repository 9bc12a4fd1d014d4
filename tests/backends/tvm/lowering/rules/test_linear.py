"""Products of codes against the definition of the operators in float64."""

from __future__ import annotations

import math
import shutil

import numpy as np
import pytest

pytest.importorskip("tvm", reason="needs graphpress[tvm]")

from kernel_checks.graphs import compiled_outputs, graph

from graphpress.backends.tvm.kernels.product import Product
from graphpress.backends.tvm.lowering.lower import lower
from graphpress.ir.qdq import import_qdq
from graphpress.runtime import Session

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")

INPUTS, OUTPUTS, ROWS = 24, 40, 64
SCALES = {"x": np.float32(0.0355), "y": np.float32(0.0227)}
ZEROS = {"x": np.uint8(117), "y": np.uint8(96)}
SUM, GEMM = "p = MatMul (x_numbers, w) s = Add (p, b)", "s = Gemm (x_numbers, w, b)"
FLOATS, CODES = "", "b = DequantizeLinear (b_codes, b_scale)"
FUNCTIONS = {
    "nothing": ("r = Identity (s)", lambda numbers: numbers),
    "limits": ("r = Relu (s)", lambda numbers: np.maximum(numbers, 0)),
    "a function": ("r = Gelu (s)", np.vectorize(lambda x: 0.5 * x * (1 + math.erf(x / math.sqrt(2))))),
}


@pytest.mark.parametrize(
    ("product", "bias", "function"),
    [*((SUM, FLOATS, function) for function in FUNCTIONS), (GEMM, FLOATS, "nothing"), (GEMM, CODES, "nothing")],
)
def test_codes_are_the_nearest_whatever_the_bias(product, bias, function, newest, tmp_path):
    """The bias lies between the numbers that sums of codes can be, which are coarse here."""
    rng = np.random.default_rng(0)
    weights = rng.integers(-127, 128, (INPUTS, OUTPUTS)).astype(np.int8)
    w_scale = rng.uniform(2e-3, 5e-3, OUTPUTS).astype(np.float32)
    b_codes, b_scale = rng.integers(-9000, 9000, OUTPUTS).astype(np.int32), np.float32(7e-6)
    text, reference = FUNCTIONS[function]
    arrays = {"b_codes": b_codes, "b_scale": b_scale} if bias else {"b": b_codes * b_scale}
    model = graph(
        f"""(float[{ROWS},{INPUTS}] x) => (float[{ROWS},{OUTPUTS}] y) {{
            x_codes = QuantizeLinear (x, x_scale, x_zero)
            x_numbers = DequantizeLinear (x_codes, x_scale, x_zero)
            w = DequantizeLinear <axis=1> (w_codes, w_scale)
            {bias}
            {product}
            {text}
            r_codes = QuantizeLinear (r, y_scale, y_zero)
            r_numbers = DequantizeLinear (r_codes, y_scale, y_zero)
            y = Identity (r_numbers)
        }}""",
        w_codes=weights,
        w_scale=w_scale,
        **arrays,
        **{f"{name}_scale": scale for name, scale in SCALES.items()},
        **{f"{name}_zero": zero for name, zero in ZEROS.items()},
    )
    import_qdq(model)
    assert any(isinstance(step.kernel, Product) and step.kernel.integer for step in lower(model, newest).steps)
    codes = rng.integers(0, 256, (ROWS, INPUTS))
    x = (codes - int(ZEROS["x"])) * np.float64(SCALES["x"])
    result = compiled_outputs(model, {"x": x.astype(np.float32)}, newest, tmp_path)["y"]
    sums = x @ (weights * w_scale.astype(np.float64)) + b_codes * np.float64(b_scale)
    exact = np.clip(reference(sums) / np.float64(SCALES["y"]), -int(ZEROS["y"]), 255 - int(ZEROS["y"]))
    assert np.abs(result / np.float64(SCALES["y"]) - exact).max() < 0.5 + 1e-5


@pytest.mark.parametrize("ratio", [0.992, 1.0, 1.004, 1.1])
def test_a_bias_in_almost_the_units_of_the_sums_of_a_convolution_is_added_as_onnxruntime_adds_it(
    ratio, newest, tmp_path
):
    """Scales of weights and bias that were rounded apart; what is farther away is no number of these units."""
    rng = np.random.default_rng(0)
    w_scale = rng.uniform(2e-3, 5e-3, OUTPUTS).astype(np.float32)
    model = graph(
        f"""(float[1,{INPUTS},5,5] x) => (float[1,{OUTPUTS},3,3] y) {{
            x_codes = QuantizeLinear (x, x_scale, x_zero)
            x_numbers = DequantizeLinear (x_codes, x_scale, x_zero)
            w = DequantizeLinear <axis=0> (w_codes, w_scale)
            b = DequantizeLinear <axis=0> (b_codes, b_scale)
            s = Conv (x_numbers, w, b)
            s_codes = QuantizeLinear (s, y_scale, y_zero)
            y = DequantizeLinear (s_codes, y_scale, y_zero)
        }}""",
        w_codes=rng.integers(-127, 128, (OUTPUTS, INPUTS, 3, 3)).astype(np.int8),
        w_scale=w_scale,
        b_codes=rng.integers(-30000, 30000, OUTPUTS).astype(np.int32),
        b_scale=SCALES["x"] * w_scale * np.float32(ratio),
        **{f"{name}_scale": scale for name, scale in SCALES.items()},
        **{f"{name}_zero": zero for name, zero in ZEROS.items()},
    )
    feed = {"x": rng.standard_normal((1, INPUTS, 5, 5)).astype(np.float32)}
    expected = Session(model).run(feed)["y"]
    import_qdq(model)
    np.testing.assert_array_equal(compiled_outputs(model, feed, newest, tmp_path)["y"], expected)
