"""Eight-bit floats: the grid, the kernels that targets have, and the form that runtimes agree on."""

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

from graphpress.ir import clone
from graphpress.ir.encoding import FLOAT8, compute_request
from graphpress.ir.qdq import materialize_qdq
from graphpress.manager.contract import Context
from graphpress.passes.quantize.quantize import Quantize
from graphpress.runtime import Session
from graphpress.targets import load_target

PADS = "<pads=[1,1,1,1]>"
FLOAT8_PASS = Quantize(dtype=FLOAT8, calibration_method="minmax")


@pytest.fixture(scope="module")
def ada():
    return load_target("rtx-ada")


@pytest.fixture
def on_ada(build, quantize, weights, ada):
    def run(body, opset=21, one=FLOAT8_PASS, size=8, **constants):
        text = f"(float[N,4,{size},{size}] x) => (float[N,4,{size},{size}] y) {{ {body} }}"
        return quantize(build(text, opset=opset, w=weights.of(4, 4, 3, 3), **constants), one=one, target=ada)

    return run


def test_scales_are_the_largest_magnitude_by_448(on_ada):
    done = on_ada(f"a = Conv{PADS}(x, w) r = Relu(a) y = Conv{PADS}(r, w)")
    assert {compute_request(node) for node in done.model.graph} == {FLOAT8, None}
    assert done.integer == set()
    weight, encoding = done.value("w").const_value.numpy(), done.encoding("w")
    assert encoding.axis is None
    assert encoding.zero_point == 0
    largest = max(float(np.abs(feed["x"]).max()) for feed in done.feeds)
    for found, wanted in (
        (float(encoding.scale), np.abs(weight).max() / 448),
        (float(done.encoding("x").scale), largest / 448),
    ):
        assert wanted <= found <= wanted * (1 + 2**-10)
        assert float(np.float16(found)) == found


def test_one_scale_per_output_channel_where_asked_for(on_ada):
    done = on_ada(f"y = Conv{PADS}(x, w)", one=replace(FLOAT8_PASS, per_channel=True))
    assert done.encoding("w").axis == 0
    assert done.sqnr()["y"] > 25


def test_numerics_against_the_definition(on_ada):
    """Round to nearest even on the grid of e4m3, in float64 around it."""
    done = on_ada("y = Conv(x, u)", u=np.random.default_rng(1).normal(size=(4, 4, 1, 1)).astype(np.float32))

    def rounded(array, encoding):
        scale = np.float32(float(encoding.scale))
        return np.clip(array / scale, -448, 448).astype(ml_dtypes.float8_e4m3fn).astype(np.float64) * np.float64(scale)

    session = Session(done.legal())
    kernel = rounded(done.value("u").const_value.numpy(), done.encoding("u"))[:, :, 0, 0]
    for feed in done.feeds:
        expected = np.einsum("oc,nchw->nohw", kernel, rounded(feed["x"], done.encoding("x")))
        np.testing.assert_allclose(session.run(feed)["y"], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("opset", [19, 20, 21, 24])
def test_quantizers_name_their_type_where_they_can(on_ada, opset):
    done = on_ada(f"a = Conv{PADS}(x, w) r = Relu(a) y = Conv{PADS}(r, w)", opset=opset)
    legal = done.legal()
    quantizers = [node for node in legal.graph if node.op_type == "QuantizeLinear"]
    assert len(quantizers) == 2
    for node in quantizers:
        assert ("output_dtype" in node.attributes) == (opset >= 21)
        assert len(node.inputs) == (2 if opset >= 21 else 3)
    if opset >= 21:
        assert done.sqnr()["y"] > 22


def test_a_relu_before_a_quantizer_is_kept_by_the_runtime(on_ada):
    """ONNX Runtime takes a zero-point of 0 for the lower end of the grid."""
    legal = on_ada(f"a = Conv{PADS}(x, w) r = Relu(a) y = Conv{PADS}(r, w)").legal()
    feed = {"x": np.random.default_rng(0).normal(size=(2, 4, 8, 8)).astype(np.float32)}
    fast, plain = (Session(legal, optimization=level).run(feed)["y"] for level in ("all", "none"))
    np.testing.assert_allclose(fast, plain, rtol=1e-4, atol=1e-4)


def test_pools_and_interpolation_stay_float_and_other_movers_do_not(on_ada):
    done = on_ada(
        f"a = Conv{PADS}(x, w) m = MaxPool<kernel_shape=[3,3],pads=[1,1,1,1]>(a) b = Conv{PADS}(m, w) "
        f"t = Transpose<perm=[0,1,3,2]>(b) y = Conv{PADS}(t, w)"
    )
    asked = {node.outputs[0].name for node in done.model.graph if compute_request(node) == FLOAT8}
    assert asked == {"a", "b", "t", "y"}


def test_large_kernels_stay_float(on_ada, weights):
    done = on_ada(f"a = Conv<pads=[3,3,3,3]>(x, v) y = Conv{PADS}(a, w)", v=weights.of(4, 4, 7, 7))
    assert "49 positions" in done.refused["Conv_a"]
    assert done.encoding("a") is not None


@pytest.mark.parametrize("name", ["jetson", "cpu"])
def test_a_target_without_such_kernels_refuses_and_names_those_that_have_them(build, weights, name):
    model = build("(float[N,6] x) => (float[N,5] y) { y = MatMul(x, w) }", opset=19, w=weights.of(6, 5))
    refusal = FLOAT8_PASS.refuse(model, Context(target=load_target(name), original=model, calibration=[]))
    assert "no float8e4m3fn kernels" in refusal.why
    assert "rtx-ada" in refusal.fix
    assert "jetson-orin" not in refusal.fix


def test_an_old_operator_set_is_refused_with_the_remedy(build, weights, ada):
    model = build("(float[N,6] x) => (float[N,5] y) { y = MatMul(x, w) }", opset=18, w=weights.of(6, 5))
    refusal = FLOAT8_PASS.refuse(model, Context(target=ada, original=model, calibration=[]))
    assert "opset 19" in refusal.why
    assert "raise_opset{to=19}" in refusal.fix


def test_the_integers_of_a_weight_are_stored_as_eight_bit_floats(on_ada):
    legal = clone(on_ada(f"y = Conv{PADS}(x, w)").model)
    assert materialize_qdq(legal) == 2
    stored = {value.const_value.dtype.name for value in legal.graph.initializers.values()}
    assert stored == {"FLOAT", "FLOAT8E4M3FN"}
