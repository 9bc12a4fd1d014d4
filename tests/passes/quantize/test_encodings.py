"""Scales and integers against the definition in float64; what is saved comes back."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from graphpress.backends.onnxruntime.backend import OnnxRuntimeBackend
from graphpress.errors import DataError
from graphpress.ir import load, save, serialize
from graphpress.ir.encoding import AffineEncoding, encoding_of, representable
from graphpress.manager.contract import Context
from graphpress.observation import HistogramObserver
from graphpress.passes.quantize._encode import weight_encoding
from graphpress.passes.quantize._ranges import activation_encoding, mse_range
from graphpress.passes.quantize.quantize import Quantize
from graphpress.targets import QuantizationPolicy, load_target

POLICY = QuantizationPolicy()
RANGES = st.tuples(st.floats(-1e6, 1e6, width=32), st.floats(-1e6, 1e6, width=32)).map(sorted)
CONV = "(float[N,3,8,8] x) => (float[N,4,8,8] y) { y = Conv<pads=[1,1,1,1]>(x, w, b) }"


def initializers(model):
    return {name: value.const_value.numpy() for name, value in model.graph.initializers.items()}


@given(RANGES)
def test_an_activation_grid_covers_the_range_and_holds_zero(observed):
    encoding = activation_encoding(tuple(observed), POLICY)
    low, high = min(observed[0], 0), max(observed[1], 0)
    scale, zero = float(encoding.scale), int(encoding.zero_point)
    assert 0 <= zero <= 255
    if high - low > 1e-30:
        assert scale == pytest.approx((high - low) / 255, rel=1e-6)
    assert encoding.representable[0] <= low + 0.51 * scale
    assert encoding.representable[1] >= high - 0.51 * scale


@given(RANGES)
def test_a_symmetric_grid_has_its_zero_in_the_middle(observed):
    policy = QuantizationPolicy(activations="int8", symmetric_activations=True)
    encoding = activation_encoding(tuple(observed), policy)
    assert encoding.zero_point == 0
    largest = max(abs(observed[0]), abs(observed[1]))
    assert largest < 1e-30 or float(encoding.scale) == pytest.approx(largest / 127, rel=1e-6)


@given(arrays(np.float64, array_shapes(max_side=4), elements=st.floats(0, 1e30)))
def test_scales_in_half_precision_are_rounded_up_and_stay_usable(wanted):
    scales = representable(wanted, "float16")
    assert scales.dtype == np.float32
    np.testing.assert_array_equal(scales.astype(np.float16), scales)
    assert (scales > 0).all()
    assert np.isfinite(scales).all()
    inside = (wanted >= 2.0**-20) & (wanted <= 65504)
    assert (scales[inside] >= wanted.astype(np.float32)[inside]).all()
    below = np.nextafter(scales.astype(np.float16), np.float16(0))
    assert (below[inside] < wanted[inside]).all()


@settings(deadline=None)
@given(
    arrays(np.float32, array_shapes(min_dims=2, max_dims=4, max_side=5), elements=st.floats(-100, 100, width=32)),
    st.data(),
)
def test_a_weight_grid_is_its_largest_magnitude_by_127(weight, data):
    axis = data.draw(st.none() | st.integers(0, weight.ndim - 1))
    encoding = weight_encoding(weight, axis, POLICY)
    moved = weight.reshape(1, -1) if axis is None else np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
    largest = np.abs(moved.astype(np.float64)).max(axis=1)
    assert set(encoding.zero_point.flat) == {0}
    assert encoding.scale.size == len(largest)
    for scale, magnitude in zip(encoding.scale.flat, largest, strict=True):
        assert scale == pytest.approx(magnitude / 127, rel=1e-6) if magnitude > 1e-30 else scale > 0


def test_everything_that_is_written_out_is_the_definition(build, quantize, weights):
    weight, bias = weights.of(4, 3, 3, 3), weights.of(4, seed=1)
    done = quantize(build(CONV, w=weight, b=bias), one=Quantize(calibration_method="minmax"))
    data = np.concatenate([feed["x"] for feed in done.feeds]).astype(np.float64)
    scale_x = np.float32((data.max() - data.min()) / 255)
    assert done.encoding("x").scale == pytest.approx(scale_x, rel=1e-6)
    assert done.encoding("x").zero_point == round(-data.min() / scale_x)

    scale_w = np.abs(weight.astype(np.float64)).max(axis=(1, 2, 3)) / 127
    stored = initializers(done.legal())
    np.testing.assert_allclose(stored["w_scale"], scale_w, rtol=1e-6)
    np.testing.assert_array_equal(
        stored["w_quantized"],
        np.rint(weight / stored["w_scale"].reshape(-1, 1, 1, 1).astype(np.float64)),
    )
    scale_b = stored["x_scale"].astype(np.float64) * stored["w_scale"]
    np.testing.assert_allclose(stored["b_scale"], scale_b, rtol=1e-6)
    np.testing.assert_array_equal(stored["b_quantized"], np.rint(bias / stored["b_scale"].astype(np.float64)))
    assert stored["b_quantized"].dtype == np.int32
    assert stored["w_quantized"].dtype == np.int8
    assert done.sqnr()["y"] > 35


def test_a_large_bias_widens_its_weight_scale_instead_of_overflowing(build, quantize, weights):
    weight = weights.of(4, 3, 3, 3)
    weight[1] *= 1e-9
    bias = np.float32([0.1, 3.0, 0.0, -0.1])
    done = quantize(build(CONV, w=weight, b=bias))
    scale = np.array(done.read("y", 1).scale)
    plain = np.abs(weight).max(axis=(1, 2, 3)) / 127
    np.testing.assert_allclose(scale[[0, 2, 3]], plain[[0, 2, 3]], rtol=1e-6)
    assert scale[1] > 1000 * plain[1]
    stored = initializers(done.legal())
    assert np.abs(stored["b_quantized"].astype(np.int64)).max() <= 2**30 + 1
    np.testing.assert_allclose(stored["b_quantized"] * stored["b_scale"].astype(np.float64), bias, atol=1e-3)
    assert done.sqnr()["y"] > 30


def test_one_scale_a_tensor(build, quantize, weights):
    done = quantize(build(CONV, w=weights.of(4, 3, 3, 3), b=weights.of(4)), one=Quantize(per_channel=False))
    assert done.encoding("w").axis is None
    assert done.encoding("w").scale.size == done.encoding("b").scale.size == 1
    assert done.sqnr()["y"] > 30


def test_a_large_bias_widens_a_scale_for_the_whole_tensor(build, quantize, weights):
    done = quantize(
        build(CONV, w=1e-9 * weights.of(4, 3, 3, 3), b=np.float32([1, 2, 3, 4])), one=Quantize(per_channel=False)
    )
    assert done.read("y", 1).scale.size == 1
    assert done.sqnr()["y"] > 30


def test_without_saturating_kernels_weights_use_seven_bits(build, quantize, weights):
    done = quantize(build(CONV, w=weights.of(4, 3, 3, 3), b=weights.of(4)), reduced_range=True)
    assert np.abs(initializers(done.legal())["w_quantized"].astype(int)).max() == 63
    assert done.sqnr()["y"] > 30


def test_a_float_bias_stays_where_the_target_wants_it_so(build, quantize, weights):
    done = quantize(build(CONV, w=weights.of(4, 3, 3, 3), b=weights.of(4)), bias="float32")
    assert done.encoding("b") is None


def test_a_shared_bias_is_derived_for_each_reader(build, quantize, weights):
    done = quantize(
        build(
            "(float[N,4,8,8] x) => (float[N,4,8,8] y) "
            "{ a = Conv<pads=[1,1,1,1]>(x, w, b) y = Conv<pads=[1,1,1,1]>(a, v, b) }",
            w=weights.of(4, 4, 3, 3),
            v=weights.of(4, 4, 3, 3, seed=1),
            b=weights.of(4),
        )
    )
    for name in ("a", "y"):
        expected = float(done.read(name, 0).scale) * np.array(done.read(name, 1).scale)
        np.testing.assert_allclose(done.read(name, 2).scale, expected, rtol=1e-6)
    assert done.sqnr()["y"] > 25


def test_channels_of_zeros_do_no_harm(build, quantize, weights):
    weight = weights.of(4, 3, 3, 3)
    weight[2] = 0
    assert quantize(build(CONV, w=weight, b=np.zeros(4, np.float32))).sqnr()["y"] > 30


def squared_error(values, observed):
    encoding = activation_encoding(observed, POLICY)
    levels = np.clip(np.rint(values / float(encoding.scale)) + int(encoding.zero_point), 0, 255)
    return float(np.square((levels - int(encoding.zero_point)) * float(encoding.scale) - values).sum())


@pytest.mark.parametrize("outliers", [0, 1, 10])
@pytest.mark.parametrize("shape", ["normal", "laplace", "relu"])
def test_the_range_of_least_error_has_the_least_error(outliers, shape):
    random = np.random.default_rng(0)
    values = random.laplace(size=20_000) if shape == "laplace" else random.normal(size=20_000)
    values = np.maximum(values, 0.0) if shape == "relu" else values
    values = np.concatenate([values, np.full(outliers, 30.0)]).astype(np.float32).astype(np.float64)
    seen = HistogramObserver()
    seen.update(values.astype(np.float32))
    whole = (float(values.min()), float(values.max()))
    found = squared_error(values, mse_range(seen, POLICY))
    shrunk = [squared_error(values, (one * whole[0], one * whole[1])) for one in np.linspace(0.3, 1.0, 200)]
    assert found <= 1.03 * min(shrunk)
    assert found <= squared_error(values, whole)


def test_a_percentile_leaves_out_what_minmax_keeps(build, quantize, weights):
    model = build(CONV, w=weights.of(4, 3, 3, 3), b=weights.of(4))
    feed = np.random.default_rng(0).normal(size=(64, 3, 8, 8)).astype(np.float32)
    feed[0, 0, 0, 0] = 30.0
    top = {
        method: quantize(model, [{"x": feed}], one=Quantize(calibration_method=method, percentile=99.9))
        .encoding("x")
        .representable[1]
        for method in ("minmax", "mse", "percentile")
    }
    assert top["minmax"] == pytest.approx(30, abs=0.2)
    assert top["percentile"] < 5 < top["mse"] < top["minmax"]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_undefined_values_are_an_error_of_the_data(build, quantize, weights, bad):
    feed = np.full((2, 3, 8, 8), bad, np.float32)
    with pytest.raises(DataError, match="infinite or undefined") as raised:
        quantize(build(CONV, w=weights.of(4, 3, 3, 3), b=weights.of(4)), [{"x": feed}])
    assert raised.value.where == "x"


def test_a_node_that_reads_infinities_of_the_model_s_own_making_stays_float(build, quantize, weights):
    graph = (
        "(float[N,3,8,8] x) => (float[N,4,8,8] y) "
        "{ a = Conv<pads=[1,1,1,1]>(x, w, b) z = Relu(x) l = Log(z) c = Conv<pads=[1,1,1,1]>(l, w, b) y = Add(a, c) }"
    )
    done = quantize(
        build(graph, w=weights.of(4, 3, 3, 3), b=weights.of(4)), [{"x": np.zeros((2, 3, 8, 8), np.float32)}]
    )
    assert "infinite" in done.refused["l"]
    assert done.integer == {"a"}


def test_an_annotated_model_is_saved_loaded_and_written_to_the_same_bytes(build, quantize, weights, tmp_path):
    done = quantize(
        build(
            "(float[N,3,8,8] x) => (float[N,4,8,8] y, float[N,4,8,8] z) "
            "{ e = Erf(x) a = Conv<pads=[1,1,1,1]>(e, w, b) r = Relu(a) y = Conv<pads=[1,1,1,1]>(r, v) z = Exp(r) }",
            w=weights.of(4, 3, 3, 3),
            v=weights.of(4, 4, 3, 3),
            b=weights.of(4),
        )
    )
    save(done.model, tmp_path / "annotated.onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "annotated.onnx"))
    again = load(tmp_path / "annotated.onnx")
    legal = OnnxRuntimeBackend().prepare(again, load_target("cpu")).delivered
    assert serialize(legal) == serialize(done.legal())


def test_recorded_ranges_are_followed_instead_of_the_data(build, weights):
    model = build(CONV, w=weights.of(4, 3, 3, 3), b=weights.of(4))
    target, decisions = load_target("cpu"), {}
    feeds = [{"x": np.random.default_rng(0).normal(size=(8, 3, 8, 8)).astype(np.float32)}]
    models = [build(CONV, w=weights.of(4, 3, 3, 3), b=weights.of(4)) for _ in range(2)]
    Quantize().run(models[0], Context(target=target, original=model, calibration=feeds, decisions=decisions))
    other = [{"x": 9 * feeds[0]["x"]}]
    Quantize().run(models[1], Context(target=target, original=model, calibration=other, decisions=dict(decisions)))
    assert serialize(models[0]) == serialize(models[1])


def test_two_methods_in_one_pipeline_do_not_share_their_ranges(build, weights):
    target, decisions = load_target("cpu"), {}
    feed = np.random.default_rng(0).normal(size=(64, 3, 8, 8)).astype(np.float32)
    feed[0, 0, 0, 0] = 30.0
    found = []
    for step, method in enumerate(("minmax", "mse")):
        model = build(CONV, w=weights.of(4, 3, 3, 3), b=weights.of(4))
        context = Context(target=target, original=model, calibration=[{"x": feed}], decisions=decisions, step=step)
        Quantize(calibration_method=method).run(model, context)
        found.append(encoding_of(model.graph.inputs[0]))
    assert found[0] != found[1]


def test_an_old_operator_set_is_refused_with_the_remedy(build, weights):
    model = build("(float[N,6] x) => (float[N,5] y) { y = MatMul(x, w) }", opset=12, w=weights.of(6, 5))
    refusal = Quantize().refuse(model, Context(target=load_target("cpu"), original=model, calibration=[]))
    assert "opset 13" in refusal.why
    assert "raise_opset{to=13}" in refusal.fix


def test_encodings_are_plain_values():
    assert AffineEncoding("uint8", (0.5,), (3,)).representable == (-1.5, 126.0)
