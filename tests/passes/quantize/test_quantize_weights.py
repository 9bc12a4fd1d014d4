"""Weight-only: the blocks, their scales, the numbers that come out, and what is left alone.

ONNX Runtime runs without its rewritings: fused with integer weights, its products round activations to eight bits.
"""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpress.errors import UsageError
from graphpress.ir import Editor, clone
from graphpress.ir.encoding import compute_request, dequantize_array, fits, quantize_array, read_encoding
from graphpress.ir.qdq import materialize_qdq
from graphpress.manager.contract import Context
from graphpress.manager.prepare import prepare
from graphpress.models import build as build_family
from graphpress.passes.fusion.raise_opset import RaiseOpset
from graphpress.passes.quantize._blocks import block_encoding
from graphpress.passes.quantize.quantize_weights import QuantizeWeights
from graphpress.runtime import Session
from graphpress.targets import load_target

PRODUCT = "(float[N,{k}] x) => (float[N,{n}] y) {{ {body} }}"


@pytest.fixture(scope="module")
def newest():
    return load_target("jetson{jetpack=7.2}")


@pytest.fixture
def encode(build, weights, newest):
    """A product with a weight of this shape, after the pass; its outcome."""

    def run(shape, body="y = MatMul(x, w)", one=None, exclude=None, transposed=False, **constants):
        inputs, outputs = reversed(shape) if transposed else shape
        model = build(PRODUCT.format(k=inputs, n=outputs, body=body), opset=21, w=weights.of(*shape), **constants)
        context = Context(target=newest, original=model, exclude=exclude)
        return model, (one or QuantizeWeights()).run(model, context)

    return run


def only_product(model):
    (node,) = (node for node in model.graph if node.op_type in ("MatMul", "Gemm"))
    return node


@pytest.mark.parametrize(
    ("shape", "body", "axis", "scales"),
    [
        ((256, 6), "y = MatMul(x, w)", 0, (2, 6)),
        ((256, 6), "y = Gemm(x, w)", 0, (2, 6)),
        ((6, 256), "y = Gemm<transB=1>(x, w)", 1, (6, 2)),
    ],
)
def test_blocks_run_along_the_contracted_axis(encode, shape, body, axis, scales):
    model, outcome = encode(shape, body, transposed=shape[0] < shape[1])
    node = only_product(model)
    found = read_encoding(node, 1)
    assert (found.dtype, found.axis, found.block, found.scale.shape) == ("int4", axis, 128, scales)
    assert fits(found, shape)
    assert not found.zero_point.any()
    assert all(float(np.float16(scale)) == scale for scale in found.scale.flat)
    assert compute_request(node) == "weight-only"
    assert read_encoding(node, 0) is None
    assert outcome.changes == 1


@pytest.mark.parametrize(("inputs", "block"), [(512, 128), (256, 128), (128, 64), (192, 64), (96, 32), (64, 32)])
def test_a_smaller_block_is_taken_where_the_wanted_one_does_not_fit_twice(encode, inputs, block):
    model, _ = encode((inputs, 4))
    assert read_encoding(only_product(model), 1).block == block


@pytest.mark.parametrize(
    ("shape", "body", "why"),
    [
        ((32, 4), "y = MatMul(x, w)", "no two blocks"),
        ((100, 4), "y = MatMul(x, w)", "no two blocks"),
        ((128, 5), "y = MatMul(x, w)", "odd"),
    ],
)
def test_weights_without_a_kernel_are_refused(encode, shape, body, why):
    model, outcome = encode(shape, body)
    assert outcome.changes == 0
    assert why in outcome.refusals[0].why
    assert compute_request(only_product(model)) is None


@pytest.mark.parametrize("dtype", ["int4", "int8"])
@pytest.mark.parametrize("factor", [1e-8, 1e8])
def test_weights_that_have_no_scale_in_half_precision_are_refused(build, weights, newest, dtype, factor):
    weight = weights.of(64, 6) * np.float32(factor)
    model = build(PRODUCT.format(k=64, n=6, body="y = MatMul(x, w)"), opset=21, w=weight)
    outcome = QuantizeWeights(dtype=dtype).run(model, Context(target=newest, original=model))
    assert outcome.changes == 0
    assert "for which float16 holds no scale" in outcome.refusals[0].why


def test_excluded_encoded_and_computed_weights_are_refused(encode, build, newest, weights):
    _, outcome = encode((128, 4), exclude=re.compile("MatMul"))
    assert "excluded" in outcome.refusals[0].why
    model, _ = encode((128, 4))
    again = QuantizeWeights().run(model, Context(target=newest, original=model))
    assert "already" in again.refusals[0].why
    text = "(float[2,3,4] x, float[2,4,3] z) => (float[2,3,3] y) { y = MatMul(x, z) }"
    computed = build(text, opset=21)
    outcome = QuantizeWeights().run(computed, Context(target=newest, original=computed))
    assert "run time" in outcome.refusals[0].why


def test_convolutions_are_left_out_and_the_notes_say_so_once(build, newest, weights):
    model = build(
        "(float[N,64,4,4] x) => (float[N,64,4,4] y) { a = Conv(x, w) y = Conv(a, w) }",
        opset=21,
        w=weights.of(64, 64, 1, 1),
    )
    outcome = QuantizeWeights().run(model, Context(target=newest, original=model))
    assert outcome.changes == 0
    assert sum("convolutions" in note for note in outcome.notes) == 1


def test_other_readers_of_a_weight_keep_reading_float(build, newest, weights):
    model = build(
        "(float[N,128] x) => (float[N,4] y, float[128,4] z) { y = MatMul(x, w) z = Erf(w) }",
        opset=21,
        w=weights.of(128, 4),
    )
    QuantizeWeights().run(model, Context(target=newest, original=model))
    assert read_encoding(model.graph[1], 0) is None
    assert read_encoding(only_product(model), 1) is not None


def test_int8_takes_one_scale_per_output(encode):
    model, _ = encode((100, 6), one=QuantizeWeights(dtype="int8"))
    found = read_encoding(only_product(model), 1)
    assert (found.dtype, found.axis, found.block, len(found.scale)) == ("int8", 1, 0, 6)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.sampled_from([(128, 6), (6, 128)]), st.sampled_from([32, 64]), st.booleans())
def test_scales_of_blocks_beat_every_other_scale_of_the_candidates(seed, shape, block, outliers):
    weight = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    if outliers:
        weight.reshape(-1)[::37] *= 6
    axis = 0 if shape[0] == 128 else 1
    encoding = block_encoding(weight, axis, block, "int4", "float32")
    assert fits(encoding, shape)
    rows = np.moveaxis(weight, axis, -1).reshape(-1, block).astype(np.float64)
    held = dequantize_array(quantize_array(weight, encoding), encoding)
    found = np.square(np.moveaxis(held, axis, -1).reshape(-1, block) - rows).sum(axis=1)
    largest = np.abs(rows).max(axis=1, keepdims=True)
    for clip in (1.0, 0.9, 0.8, 0.7):
        scale = clip * largest / 7
        other = np.square(np.clip(np.rint(rows / scale), -8, 7) * scale - rows).sum(axis=1)
        assert (found <= other * (1 + 1e-4)).all()


def test_blocks_of_zeros_do_no_harm():
    encoding = block_encoding(np.zeros((64, 4), np.float32), 0, 32, "int4", "float16")
    assert set(encoding.scale.flat) == {1.0}


@pytest.mark.parametrize(("dtype", "least"), [("int4", 9), ("int8", 33)])
@pytest.mark.parametrize("family", ["bert", "gpt", "vit"])
def test_transformers_compute_what_the_rounded_weights_say(family, dtype, least, newest):
    """ONNX Runtime on the written model against itself on float weights that were rounded here."""
    model = build_family(family)
    prepare(model, {})
    context = Context(target=newest, original=model)
    RaiseOpset(to=21).run(model, context)
    before = clone(model)
    outcome = QuantizeWeights(dtype=dtype).run(model, context)
    assert outcome.changes >= 8
    rounded, legal = clone(before), clone(model)
    edit = Editor(rounded)
    for node, annotated in zip(list(rounded.graph), list(model.graph), strict=True):
        for index in range(len(node.inputs)):
            if encoding := read_encoding(annotated, index):
                weight = node.inputs[index].const_value.numpy()
                edit.own_constant(node, index, dequantize_array(quantize_array(weight, encoding), encoding))
    materialize_qdq(legal)
    random = np.random.default_rng(0)
    sizes = {"batch": 2, "N": 2}
    feed = {}
    for spec in Session(before).inputs:
        dims = [dim if isinstance(dim, int) else sizes.get(dim, 16) for dim in spec.dims]
        whole = spec.dtype.kind == "i"
        feed[spec.name] = (random.integers(0, 2, dims) if whole else random.normal(size=dims)).astype(spec.dtype)
    floats, expected, actual = (Session(one, optimization="none").run(feed) for one in (before, rounded, legal))
    for name, array in expected.items():
        signal = float(np.square(floats[name].astype(np.float64)).sum())
        noise = float(np.square(floats[name].astype(np.float64) - actual[name]).sum())
        assert 10 * np.log10(signal / noise) > least
        np.testing.assert_allclose(actual[name], array, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", ["int4", "int8"])
@pytest.mark.parametrize("transposed", [False, True])
def test_numerics_in_float64(encode, dtype, transposed):
    shape = (6, 256) if transposed else (256, 6)
    body = "y = Gemm<transB=1>(x, w, b)" if transposed else "m = MatMul(x, w) y = Add(m, b)"
    bias = np.arange(6, dtype=np.float32)
    model, _ = encode(shape, body, QuantizeWeights(dtype=dtype, block_size=64), transposed=transposed, b=bias)
    encoding, weight = read_encoding(only_product(model), 1), model.graph.initializers["w"].const_value.numpy()
    integers = quantize_array(weight, encoding).astype(np.float64)
    scale = np.array(encoding.scale, np.float64)
    if encoding.block:
        scale = np.repeat(scale, encoding.block, axis=encoding.axis)
    else:
        scale = scale[:, None] if transposed else scale
    matrix = integers * scale
    data = np.random.default_rng(0).normal(size=(5, 256)).astype(np.float32)
    expected = data.astype(np.float64) @ (matrix.T if transposed else matrix) + bias
    materialize_qdq(model)
    stored = {value.const_value.dtype.name for value in model.graph.initializers.values()}
    assert dtype.upper() in stored
    np.testing.assert_allclose(
        Session(model, optimization="none").run({"x": data})["y"], expected, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(
    ("target", "opset", "why", "fix"),
    [
        ("cpu", 21, "no int4 kernels", "jetson-orin"),
        ("jetson", 20, "reads at most 20", "jetson-orin{jetpack=7.2}"),
        ("jetson{jetpack=7.2}", 20, "needs opset 21", "raise_opset{to=21}"),
    ],
)
def test_what_a_target_cannot_read_is_refused_with_the_remedy(build, weights, target, opset, why, fix):
    model = build("(float[N,64] x) => (float[N,4] y) { y = MatMul(x, w) }", opset=opset, w=weights.of(64, 4))
    refusal = QuantizeWeights().refuse(model, Context(target=load_target(target), original=model))
    assert why in refusal.why
    assert fix in refusal.fix


def test_other_block_sizes_are_no_option():
    context = Context(target=load_target("jetson{jetpack=7.2}"), original=None)
    with pytest.raises(UsageError, match="blocks of 48") as raised:
        QuantizeWeights(block_size=48).check(context)
    assert "128" in raised.value.fix
    QuantizeWeights(block_size=64).check(context)
    QuantizeWeights(dtype="int8", block_size=48).check(context)


def test_the_target_says_which_blocks_its_kernels_read(build, weights):
    target = load_target("jetson{jetpack=7.2}")
    target = replace(target, quantization=replace(target.quantization, weight_blocks=(48,)))
    model = build("(float[N,96] x) => (float[N,4] y) { y = MatMul(x, w) }", opset=21, w=weights.of(96, 4))
    context = Context(target=target, original=model)
    QuantizeWeights(block_size=48).check(context)
    assert QuantizeWeights(block_size=48).run(model, context).changes == 1
    assert read_encoding(model.graph[0], 1).block == 48
