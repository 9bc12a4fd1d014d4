"""Encodings in a module: the numbers that ONNX Runtime computes with, and gradients that pass through."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpress.ir import Editor, clone, input_of
from graphpress.ir.encoding import (
    FLOAT,
    FLOAT8,
    AffineEncoding,
    CastEncoding,
    CodebookEncoding,
    dequantize_array,
    dynamic_encoding,
    encoding_of,
    invalidation_of,
    override_output,
    override_use,
    quantize_array,
    read_encoding,
    round_trip,
    set_encoding,
)
from graphpress.ir.qdq import import_qdq, materialize_qdq

torch = pytest.importorskip("torch", reason="the bridge needs PyTorch: pip install 'graphpress[torch]'")

from graphpress.torch_bridge import BridgeError
from graphpress.torch_bridge.fake_quantize import fixed_grid, following_grid, renewed

BYTES = AffineEncoding("uint8", (0.05,), (120,))


def grids():
    """Encodings of a (4, 6) tensor: per tensor, per axis, in blocks."""

    def encoding(dtype, axis, block):
        shape = () if axis is None else ([4, 6][axis],)
        if block:
            shape = (4, -(-6 // block)) if axis == 1 else (-(-4 // block), 6)
        size = int(np.prod(shape))
        random = np.random.default_rng(size)
        zero = (
            random.integers(-3, 4, size) + (8 if dtype.startswith("u") else 0)
            if dtype != "int32"
            else 0 * np.arange(size)
        )
        scale = random.uniform(0.01, 0.5, size).astype(np.float32)
        return AffineEncoding(dtype, scale.reshape(shape), zero.reshape(shape), axis, block)

    dtypes = st.sampled_from(["int8", "uint8", "int16", "uint16", "int4", "uint4", "int32"])
    places = st.sampled_from([(None, 0), (0, 0), (1, 0), (1, 2), (1, 4), (0, 3)])
    return st.builds(lambda dtype, place: encoding(dtype, *place), dtypes, places)


@settings(deadline=None, max_examples=60)
@given(encoding=grids(), seed=st.integers(0, 1000), size=st.sampled_from([0.1, 1.0, 100.0]))
def test_it_is_quantizing_and_dequantizing(encoding, seed, size):
    array = (np.random.default_rng(seed).normal(size=(4, 6)) * size).astype(np.float32)
    wanted = dequantize_array(quantize_array(array, encoding), encoding)
    got = fixed_grid(encoding)(torch.from_numpy(array)).numpy()
    np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-7)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), size=st.sampled_from([0.01, 1.0, 300.0]), axis=st.sampled_from([None, 0, 1]))
def test_eight_bit_floats_are_a_grid_too(seed, size, axis):
    count = 1 if axis is None else (4, 6)[axis]
    encoding = AffineEncoding(FLOAT8, tuple(0.25 * (index + 1) for index in range(count)), (0,) * count, axis)
    array = (np.random.default_rng(seed).normal(size=(4, 6)) * size).astype(np.float32)
    x = torch.from_numpy(array).requires_grad_()
    got = fixed_grid(encoding)(x)
    np.testing.assert_array_equal(got.detach().numpy(), dequantize_array(quantize_array(array, encoding), encoding))
    got.sum().backward()
    scale = np.array(encoding.scale).reshape({None: (), 0: (4, 1), 1: (6,)}[axis])
    np.testing.assert_array_equal(x.grad.numpy(), np.abs(array / scale) <= 448)


def test_scales_of_half_precision_stay_so_while_weights_grow():
    weight = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    encoding = AffineEncoding("int8", (0.5, 0.25, 0.125, 1.0), (0,) * 4, 0)
    scale = np.array(renewed(encoding, encoding, weight, 1.1 * weight).scale)
    np.testing.assert_array_equal(scale.astype(np.float16), scale)
    np.testing.assert_allclose(scale, 1.1 * np.array(encoding.scale), rtol=1e-3)


def test_gradients_pass_inside_the_range_and_stop_outside():
    x = torch.tensor([-7.0, -5.9, 0.01, 6.7, 6.8], requires_grad=True)
    fixed_grid(BYTES)(x).sum().backward()
    assert BYTES.representable == (pytest.approx(-6), pytest.approx(6.75))
    assert x.grad.tolist() == [0, 1, 1, 1, 0]


def test_short_floats_keep_their_type():
    x = torch.randn(3).half().requires_grad_()
    y = fixed_grid(BYTES)(x)
    y.sum().backward()
    assert y.dtype == x.grad.dtype == torch.float16


@settings(deadline=None, max_examples=30)
@given(encoding=grids().filter(lambda encoding: encoding.dtype != "int32"), seed=st.integers(0, 100))
def test_scales_follow_the_weight(encoding, seed):
    """At the start they are what they were; a weight three times as large lies on a grid three times as wide."""
    array = np.random.default_rng(seed).normal(size=(4, 6)).astype(np.float32)
    kernel = following_grid(encoding, encoding, array)
    start = torch.from_numpy(array)
    assert torch.equal(kernel(start, start), fixed_grid(encoding)(start))
    assert renewed(encoding, encoding, array, array) == encoding
    np.testing.assert_allclose(kernel(3 * start, 3 * start), 3 * kernel(start, start), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        renewed(encoding, encoding, array, 3 * array).scale, 3 * np.array(encoding.scale), rtol=1e-6
    )


def test_a_channel_without_numbers_keeps_its_scale():
    encoding = AffineEncoding("int8", (0.1, 0.2), (0, 0), axis=0)
    before, after = np.float32([[0, 0], [1, 2]]), np.float32([[1, 1], [0, 0]])
    assert renewed(encoding, encoding, before, after) == replace(encoding, scale=tuple(np.float32([0.1, 0.2]).tolist()))


# -- in a model -------------------------------------------------------------------------------------------------


@pytest.fixture
def convolution(build):
    """One convolution in integers: input and output per tensor, weight per channel, bias derived."""
    random = np.random.default_rng(3)
    weight, bias = random.normal(size=(4, 3, 3, 3)).astype(np.float32), random.normal(size=4).astype(np.float32)
    model = build(
        "(float[N,3,8,8] x) => (float[N,4,6,6] y) { c = Conv (x, w, b) r = Relu (c) y = Neg (r) }", w=weight, b=bias
    )
    scale = tuple((np.abs(weight).max((1, 2, 3)) / 127).astype(np.float32).tolist())
    values = {value.name: value for node in model.graph for value in (*node.inputs, *node.outputs)}
    set_encoding(values["x"], AffineEncoding("uint8", (0.03,), (128,)))
    set_encoding(values["w"], AffineEncoding("int8", scale, (0,) * 4, axis=0))
    derived = tuple(float(np.float32(0.03) * np.float32(factor)) for factor in scale)
    set_encoding(values["b"], AffineEncoding("int32", derived, (0,) * 4, axis=0, derived=True))
    set_encoding(values["r"], AffineEncoding("uint8", (0.06,), (0,)))
    return model


def steps_apart(got, wanted, step):
    return float(np.abs(got["y"] - wanted["y"]).max() / step)


def test_a_module_computes_what_the_written_model_does(convolution, bridge, made_up, run, materialized):
    feed = made_up(convolution, 3)
    got = run(bridge.to_module(convolution).module, feed)
    assert steps_apart(got, materialized(convolution, feed), 0.06) <= 1.001
    levels = got["y"] / np.float32(0.06)
    assert np.abs(levels - levels.round()).max() < 1e-4


def test_every_weight_trains_through_its_encoding(convolution, bridge, made_up):
    trained = bridge.to_module(convolution)
    trained.module({name: torch.from_numpy(array) for name, array in made_up(convolution).items()})[
        "y"
    ].square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in trained.parameters.values())


def test_what_was_trained_is_written_back_with_its_encodings(
    convolution, bridge, made_up, run, materialized, shaken, find
):
    trained, feed = bridge.to_module(convolution), made_up(convolution, 3)
    shaken(trained, 0.5)
    assert bridge.write_back(trained, convolution) == 2
    assert steps_apart(run(trained.module, feed), materialized(convolution, feed), 0.06) <= 1.001
    weight, bias = find(convolution, "w"), find(convolution, "b")
    encoding, derived = encoding_of(weight), encoding_of(bias)
    np.testing.assert_allclose(
        np.array(encoding.scale) * 127, np.abs(weight.const_value.numpy()).max((1, 2, 3)), rtol=1e-5
    )
    np.testing.assert_allclose(derived.scale, np.float32(0.03) * np.array(encoding.scale), rtol=1e-5)
    assert derived.derived
    assert invalidation_of(weight) is None


def test_a_module_of_what_was_written_is_the_same_module(convolution, bridge, made_up, run, shaken):
    trained, feed = bridge.to_module(convolution), made_up(convolution)
    shaken(trained, 0.5)
    bridge.write_back(trained, convolution)
    again = run(bridge.to_module(convolution).module, feed)
    np.testing.assert_array_equal(again["y"], run(trained.module, feed)["y"])


def test_a_bias_that_stays_follows_its_weight(convolution, bridge, find):
    trained = bridge.to_module(convolution, trainable=lambda value: value.name == "w")
    before = encoding_of(find(convolution, "b"))
    with torch.no_grad():
        trained.parameters["w"].mul_(2)
    assert bridge.write_back(trained, convolution) == 1
    np.testing.assert_allclose(encoding_of(find(convolution, "b")).scale, 2 * np.array(before.scale), rtol=1e-6)


def test_a_use_may_read_float_or_another_grid(build, bridge, made_up, run, materialized):
    model = build(
        "(float[2,3] x) => (float[2,3] y, float[2,3] z, float[2,3] a) { a = Abs (x) y = Neg (a) z = Relu (a) }"
    )
    nodes = {node.op_type: node for node in model.graph}
    set_encoding(nodes["Abs"].outputs[0], BYTES)
    override_use(nodes["Neg"], 0, FLOAT)
    override_use(nodes["Relu"], 0, AffineEncoding("int8", (0.5,), (0,)))
    feed = made_up(model)
    got, wanted = run(bridge.to_module(model).module, feed), materialized(model, feed)
    for name in wanted:
        np.testing.assert_allclose(got[name], wanted[name], atol=1e-6)
    override_output(nodes["Abs"].outputs[0], FLOAT)
    np.testing.assert_array_equal(run(bridge.to_module(model).module, feed)["a"], np.abs(feed["x"]))


def test_a_tap_is_what_was_computed_before_the_grid(convolution, bridge, made_up, run):
    feed = made_up(convolution)
    got = run(bridge.to_module(convolution, taps=["r"]).module, feed)
    assert (got["r"] != -got["y"]).any()


def test_a_shared_weight_keeps_the_encoding_of_each_use(build, bridge, made_up, run, materialized, shaken):
    weight = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    model = build("(float[2,4] x) => (float[2,4] y) { a = MatMul (x, w) y = MatMul (a, w) }", opset=21, w=weight)
    first, second = model.graph
    peak = float(np.abs(weight).max())
    set_encoding(input_of(first, 1), AffineEncoding("int8", (peak / 127,), (0,)))
    override_use(second, 1, AffineEncoding("int4", (peak / 7,), (0,)))
    trained, feed = bridge.to_module(model), made_up(model)
    shaken(trained, 0.5)
    bridge.write_back(trained, model)
    assert [read_encoding(node, 1).dtype for node in (first, second)] == ["int8", "int4"]
    np.testing.assert_allclose(run(trained.module, feed)["y"], materialized(model, feed)["y"], rtol=1e-4, atol=1e-5)


def test_encodings_that_came_with_the_model_stay(convolution, bridge, made_up, run, materialized, shaken, find):
    model = clone(convolution)
    materialize_qdq(model)
    assert import_qdq(model).count
    weight = next(value for value in model.graph.initializers.values() if encoding_of(value) and len(value.shape) == 4)
    before = encoding_of(weight)
    assert before.imported
    trained, feed = bridge.to_module(model), made_up(model, 3)
    assert steps_apart(run(trained.module, feed), materialized(convolution, feed), 0.06) <= 1.001
    shaken(trained, 0.5)
    bridge.write_back(trained, model)
    assert encoding_of(weight) == before
    assert steps_apart(run(trained.module, feed), materialized(model, feed), 0.06) <= 1.001


def test_constants_that_do_not_train_are_on_their_grid(convolution, bridge, made_up, run, materialized):
    feed = made_up(convolution)
    module = bridge.to_module(convolution, trainable=lambda value: False).module
    assert steps_apart(run(module, feed), materialized(convolution, feed), 0.06) <= 1.001


@pytest.mark.parametrize(
    "encoding", [dynamic_encoding("uint8"), CodebookEncoding("uint4", np.arange(9)), CastEncoding("float16")]
)
def test_what_has_no_fake_quantization_is_an_error(build, bridge, encoding):
    model = build("(float[2] x) => (float[2] y) { y = Neg (x) }")
    override_use(model.graph[0], 0, encoding)
    with pytest.raises(BridgeError, match=f"the encoding {encoding.label} has no fake quantization"):
        bridge.to_module(model)


def test_a_codebook_of_a_constant_that_does_not_train_is_decoded(build, bridge, made_up, run):
    weight = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    model = build("(float[2,4] x) => (float[2,4] y) { y = MatMul (x, w) }", w=weight)
    encoding, feed = CodebookEncoding("uint2", np.array([-1.0, 0.0, 1.0])), made_up(model)
    set_encoding(model.graph.initializers["w"], encoding)
    module = bridge.to_module(model, trainable=lambda value: False).module
    np.testing.assert_allclose(run(module, feed)["y"], feed["x"] @ round_trip(weight, encoding), rtol=1e-5)


def test_an_editor_would_have_invalidated_it(convolution, find):
    weight = find(convolution, "w")
    Editor(convolution).set_constant(weight, weight.const_value.numpy() * 2)
    assert encoding_of(weight) is None
