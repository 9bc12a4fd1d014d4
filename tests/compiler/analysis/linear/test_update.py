"""New parameters are written so that the model computes them, and encodings and marks follow."""

import numpy as np
import pytest

from graphpress.analysis.linear import (
    LinearOp,
    LinearParameters,
    changeable_linear_op,
    parameters_of,
    refit,
    updated,
    write_bias,
)
from graphpress.analysis.linear.bias import adder_of, takes_shift
from graphpress.ir import Editor, constant, label
from graphpress.ir.encoding import (
    AffineEncoding,
    CastEncoding,
    CodebookEncoding,
    encoding_of,
    invalidate_encoding,
    invalidation_of,
    request_compute,
    set_encoding,
)
from graphpress.ir.sparsity import Sparsity, set_sparsity, sparsity_of
from graphpress.runtime import Session

RANDOM = np.random.default_rng(0)


def normal(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


MODELS = {
    "conv": ("(float[2,6,5,5] x) => (float y) { y = Conv<group=2>(x, w) }", (4, 3, 2, 2)),
    "transposed": ("(float[2,6,5,5] x) => (float y) { y = ConvTranspose(x, w) }", (6, 4, 2, 2)),
    "gemm": ("(float[3,6] x) => (float y) { y = Gemm<alpha=0.5, transB=1>(x, w) }", (4, 6)),
    "matmul": ("(float[3,6] x) => (float y) { y = MatMul(x, w) }", (6, 4)),
    "matmul and add": ("(float[3,6] x) => (float y) { h = MatMul(x, w) y = Add(h, c) }", (6, 4)),
}


def model_of(build, kind):
    text, shape = MODELS[kind]
    return build(text, w=normal(*shape), **({"c": normal(4)} if "c)" in text else {}))


def run(model, x):
    (result,) = Session(model, optimization="none").run({"x": x}).values()
    return result


@pytest.mark.parametrize("kind", MODELS)
def test_what_is_written_is_computed(build, kind):
    model = model_of(build, kind)
    op = changeable_linear_op(model.graph[0])
    old, x = parameters_of(op), normal(*op.data.shape.numpy())
    before = run(model, x)
    parameters = LinearParameters(old.matrix * 2, old.bias * 2 + 3)
    held = constant(model.graph.initializers["c"]).copy() if "add" in kind else 0
    result = updated(op, parameters).write(Editor(model))
    assert result.is_graph_output()
    np.testing.assert_allclose(run(model, x), (before - held) * 2 + 3 + held, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "takes"), [("conv", True), ("gemm", True), ("matmul", False), ("matmul and add", True)]
)
def test_where_a_shift_can_go(build, kind, takes):
    model = model_of(build, kind)
    op = changeable_linear_op(model.graph[0])
    assert takes_shift(op) is takes
    assert (adder_of(op) is not None) is ("add" in kind)
    nodes = len(model.graph)
    write_bias(Editor(model), op, np.ones((op.matrix_shape[0], op.matrix_shape[2])))
    assert len(model.graph) == nodes + (not takes)


def test_a_shift_of_nothing_writes_nothing(build):
    for kind in MODELS:
        model = model_of(build, kind)
        op = changeable_linear_op(model.graph[0])
        names = set(model.graph.initializers)
        write_bias(Editor(model), op, np.zeros((op.matrix_shape[0], op.matrix_shape[2])))
        assert set(model.graph.initializers) == names


@pytest.mark.parametrize(
    ("text", "weight", "reason"),
    [
        ("(float[3,6] x) => (float y) { h = MatMul(x, w) y = Add(h, w) }", normal(6, 6), "another reader"),
        ("(float[3,6] x) => (float y) { y = Gemm<alpha=0.0>(x, w) }", normal(6, 4), "multiplies its weight by 0"),
        ("(float[3,6] x, float[4] b) => (float y) { y = Gemm(x, w, b) }", normal(6, 4), "not one constant a channel"),
        ("(int32[3,6] x) => (int32[3,4] y) { y = MatMul(x, w) }", np.ones((6, 4), np.int32), "float type"),
    ],
)
def test_what_may_not_be_changed_and_why(build, text, weight, reason):
    assert reason in changeable_linear_op(build(text, w=weight).graph[0]).why


def test_what_is_no_linear_operator_is_none(build):
    assert changeable_linear_op(build("(float[3] x) => (float y) { y = Relu(x) }").graph[0]) is None


# -- what is encoded anew -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axis", "block", "growth"),
    [(None, 0, [4.0]), (0, 0, [2.0, 4.0]), (1, 2, [2.0, 2.0, 2.0, 4.0])],
)
def test_a_scale_grows_with_what_it_serves(axis, block, growth):
    old, factor = np.ones((2, 4), np.float32), np.full((2, 4), 2.0, np.float32)
    factor[1, 3] = 4
    growth = np.reshape(growth, (2, 2) if block else () if axis is None else -1)
    encoding = AffineEncoding("int8", np.full_like(growth, 0.1), 0, axis, block, imported=True)
    fitted = refit(encoding, old, old * factor)
    np.testing.assert_allclose(fitted.scale, 0.1 * growth, rtol=1e-6)
    assert not fitted.imported


def test_a_scale_of_zeros_stays():
    encoding = AffineEncoding("int8", (0.1, 0.1), (0, 0), 0)
    fitted = refit(encoding, np.array([[0.0], [1.0]]), np.array([[5.0], [0.0]]))
    np.testing.assert_allclose(fitted.scale, (0.1, 0.1), rtol=1e-6)


def test_parameters_are_as_they_are_delivered(build):
    model = model_of(build, "gemm")
    op = changeable_linear_op(model.graph[0])
    set_encoding(op.weight, AffineEncoding("int8", (0.5,), (0,)))
    matrix = parameters_of(op).matrix / op.alpha
    np.testing.assert_array_equal(matrix, np.rint(op.as_matrix(op.stored_weight()) / 0.5) * 0.5)
    update = updated(op, LinearParameters(matrix * op.alpha * 2, np.zeros((1, 4))))
    np.testing.assert_allclose(update.matrix, matrix * op.alpha * 2, atol=0.5)
    update.write(Editor(model))
    assert encoding_of(op.weight) == update.encoding


def integer_conv(build):
    model = build(
        "(float[2,6,5,5] x) => (float y) { h = Relu(x) y = Conv(h, w, b) }", w=normal(4, 6, 2, 2), b=normal(4)
    )
    op = changeable_linear_op(model.graph[1])
    set_encoding(op.data, AffineEncoding("uint8", (0.25,), (0,)))
    set_encoding(op.weight, AffineEncoding("int8", (0.5, 1.0, 2.0, 4.0), (0,) * 4, 0))
    request_compute(op.node, "int8")
    return model, op


def test_the_grid_of_a_bias_follows_from_those_of_data_and_weight(build):
    model, op = integer_conv(build)
    write_bias(Editor(model), op, np.ones((1, 4)))
    encoding = encoding_of(op.bias)
    assert (encoding.dtype, encoding.axis) == ("int32", 0)
    np.testing.assert_allclose(encoding.scale, [0.125, 0.25, 0.5, 1.0])


@pytest.mark.parametrize("bias", [np.full((1, 4), 1e12), np.ones((1, 4))])
def test_a_bias_that_would_overflow_or_that_the_target_adds_in_float_is_float(build, bias):
    model, op = integer_conv(build)
    write_bias(Editor(model), op, bias, "int32" if bias.max() > 1e9 else "float32")
    assert encoding_of(op.bias) is None


def test_a_mark_of_zeros_is_kept_where_it_holds(build):
    for factor, kept in ((2.0, True), (0.0, True), (None, False)):
        model = model_of(build, "matmul")
        op = changeable_linear_op(model.graph[0])
        weight = op.stored_weight().copy()
        weight[::2] = 0
        own = Editor(model).own_constant(op.node, 1, weight)
        set_sparsity(own, Sparsity("1:2", 0, 0.5))
        matrix = np.ones_like(weight)[None] if factor is None else op.as_matrix(weight) * factor
        updated(op, LinearParameters(matrix.astype(float), np.zeros((1, 4)))).write(Editor(model))
        assert (sparsity_of(op.weight) is not None) is kept


def test_an_encoding_that_was_lost_stays_on_record(build):
    model = model_of(build, "matmul")
    op = changeable_linear_op(model.graph[0])
    set_encoding(op.weight, AffineEncoding("int8", (0.5,), (0,)))
    invalidate_encoding(op.weight, "a pass changed it")
    updated(op, parameters_of(op)).write(Editor(model))
    assert isinstance(op, LinearOp)
    assert invalidation_of(op.weight) == "a pass changed it", label(op.weight)


@pytest.mark.parametrize("encoding", [CodebookEncoding("uint2", np.arange(4)), CastEncoding("float16")])
def test_what_has_no_scale_to_follow_is_refused(build, encoding):
    model = model_of(build, "matmul")
    set_encoding(changeable_linear_op(model.graph[0]).weight, encoding)
    assert f"held as {encoding.label}" in changeable_linear_op(model.graph[0]).why
