"""Scales and shifts of channels move into the constants: the operator then computes what the formula says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpress.analysis.linear import ChannelAffine, LinearUpdate, linear_op_of, scale_inputs, scale_outputs
from graphpress.ir import Editor, clone
from graphpress.runtime import Session

RANDOM = np.random.default_rng(0)

KINDS = {
    "conv": ("Conv", (4, 6, 3, 3), (2, 6, 5, 5), 4),
    "grouped": ("Conv<group=2>", (4, 3, 2, 2), (2, 6, 5, 5), 4),
    "transposed": ("ConvTranspose<group=2>", (6, 2, 2, 2), (2, 6, 4, 4), 4),
    "gemm": ("Gemm<alpha=0.5, beta=2.0>", (6, 4), (3, 6), 4),
    "gemm transposed": ("Gemm<transB=1>", (4, 6), (3, 6), 4),
    "matmul": ("MatMul", (6, 4), (3, 6), 4),
}


def normal(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


def spread(numbers, rank, axis):
    shape = [1] * rank
    shape[axis] = -1
    return np.asarray(numbers, np.float32).reshape(shape)


def layer(build, kind, weight, data, outputs, *, bias):
    has_bias = bias and kind != "MatMul"
    names, constants = ("x, w, b", {"b": normal(outputs)}) if has_bias else ("x, w", {})
    dims = ",".join(map(str, data))
    return build(f"(float[{dims}] x) => (float y) {{ y = {kind}({names}) }}", w=normal(*weight), **constants)


def run(model, x):
    (result,) = Session(model, optimization="none").run({"x": x}).values()
    return result


def written(model, update):
    """A copy of the model with the update written into it."""
    assert isinstance(update, LinearUpdate)
    copy = clone(model)
    LinearUpdate(linear_op_of(copy.graph[0]), update.weight, update.bias).write(Editor(copy))
    return copy


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bias", [True, False])
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**16), single=st.booleans())
def test_outputs(build, kind, bias, seed, single):
    op_type, weight, shape, outputs = KINDS[kind]
    random = np.random.default_rng(seed)
    affine = ChannelAffine(*(random.normal(size=1 if single else outputs) for _ in range(2)))
    model = layer(build, op_type, weight, shape, outputs, bias=bias)
    op = linear_op_of(model.graph[0])
    x = normal(*shape)
    before = run(model, x)
    scale, shift = (spread(array, before.ndim, op.channel_axis) for array in (affine.scale, affine.shift))
    np.testing.assert_allclose(run(written(model, scale_outputs(op, affine)), x), before * scale + shift, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**16), shifts=st.booleans())
def test_inputs(build, kind, seed, shifts):
    op_type, weight, shape, outputs = KINDS[kind]
    random = np.random.default_rng(seed)
    affine = ChannelAffine(random.normal(size=6), random.normal(size=6) * shifts)
    model = layer(build, op_type, weight, shape, outputs, bias=True)
    op = linear_op_of(model.graph[0])
    update = scale_inputs(op, affine)
    if shifts and op_type.startswith(("MatMul", "ConvTranspose")):
        assert "shift" in update.why
        return
    x = normal(*shape)
    scale, shift = (spread(array, x.ndim, op.channel_axis) for array in (affine.scale, affine.shift))
    np.testing.assert_allclose(run(written(model, update), x), run(model, x * scale + shift), atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "reason"), [("Conv<pads=[1,1,1,1]>", "padding"), ('Conv<auto_pad="SAME_UPPER">', "padding")]
)
def test_padding_hides_a_shift_but_no_scale(build, kind, reason):
    op = linear_op_of(layer(build, kind, (4, 6, 3, 3), (2, 6, 5, 5), 4, bias=True).graph[0])
    assert reason in scale_inputs(op, ChannelAffine(np.ones(1), np.ones(1))).why
    assert isinstance(scale_inputs(op, ChannelAffine(np.full(6, 2.0), np.zeros(1))), LinearUpdate)


def test_a_transposed_input_is_refused(build):
    op = linear_op_of(layer(build, "Gemm<transA=1>", (6, 4), (6, 3), 4, bias=True).graph[0])
    assert "transposed" in scale_inputs(op, ChannelAffine(np.ones(6), np.zeros(6))).why


def test_weights_out_of_range_are_refused(build):
    op = linear_op_of(layer(build, "Gemm", (6, 4), (3, 6), 4, bias=True).graph[0])
    assert "range of float32" in scale_outputs(op, ChannelAffine(np.full(1, 1e39), np.zeros(1))).why


def test_no_bias_is_made_of_zeros(build):
    model = layer(build, "Conv", (4, 6, 3, 3), (2, 6, 5, 5), 4, bias=False)
    update = scale_outputs(linear_op_of(model.graph[0]), ChannelAffine(np.full(4, 2.0), np.zeros(1)))
    assert update.bias is None
    assert len(written(model, update).graph[0].inputs) == 2
