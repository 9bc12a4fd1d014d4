"""Linear operators: both views of every kind of weight, their inverses, and what they compute."""

import numpy as np
import pytest

from graphpress.analysis.linear import linear_op_of, linear_ops_of

KINDS = {
    "conv": ("Conv<group=1>", (4, 3, 2, 5), (1, 3, 4, 2, 5)),
    "grouped": ("Conv<group=2>", (4, 3, 2, 2), (2, 3, 2, 2, 2)),
    "depthwise": ("Conv<group=4>", (8, 1, 3), (4, 1, 2, 3)),
    "transposed": ("ConvTranspose<group=1>", (4, 3, 2, 2), (1, 4, 3, 2, 2)),
    "transposed grouped": ("ConvTranspose<group=2>", (4, 3, 2, 2), (2, 2, 3, 2, 2)),
    "gemm": ("Gemm<alpha=0.5>", (3, 4), (1, 3, 4)),
    "gemm transposed": ("Gemm<transB=1, beta=2.0>", (4, 3), (1, 3, 4)),
    "matmul": ("MatMul", (3, 4), (1, 3, 4)),
    "matmul of a batch": ("MatMul", (2, 5, 3, 4), (10, 3, 4)),
}


def op_with(build, kind, weight_shape, **constants):
    weight = np.arange(np.prod(weight_shape), dtype=np.float32).reshape(weight_shape)
    names = ", ".join(["x", "w", *constants])
    model = build(
        f"(float[{','.join('N' for _ in weight_shape)}] x) => (float y) {{ y = {kind}({names}) }}",
        w=weight,
        **constants,
    )
    return linear_op_of(model.graph[0]), weight


@pytest.mark.parametrize(("kind", "shape", "kernel_shape"), KINDS.values(), ids=KINDS)
def test_views_and_their_inverses(build, kind, shape, kernel_shape):
    op, weight = op_with(build, kind, shape)
    kernel, matrix = op.as_kernel(weight), op.as_matrix(weight)
    assert kernel.shape == op.kernel_shape == kernel_shape
    blocks, inputs, outputs, *positions = kernel_shape
    assert matrix.shape == op.matrix_shape == (blocks, inputs * int(np.prod(positions)), outputs)
    assert (op.channels_in, op.channels_out) == (blocks * inputs, blocks * outputs)
    assert np.shares_memory(kernel, weight)
    for inverse, view in ((op.from_kernel, kernel), (op.from_matrix, matrix)):
        np.testing.assert_array_equal(inverse(view), weight)
        assert inverse(view).flags.c_contiguous
    np.testing.assert_array_equal(op.weight_of(op.matrix()), weight)


@pytest.mark.parametrize(("kind", "shape", "kernel_shape"), KINDS.values(), ids=KINDS)
def test_features_run_over_input_and_kernel_position(build, kind, shape, kernel_shape):
    op, weight = op_with(build, kind, shape)
    blocks, inputs, outputs, *positions = kernel_shape
    unfolded = op.as_matrix(weight).reshape(blocks, inputs, *positions, outputs)
    np.testing.assert_array_equal(np.moveaxis(unfolded, -1, 2), op.as_kernel(weight))


@pytest.mark.parametrize(("kind", "shape", "_"), KINDS.values(), ids=KINDS)
def test_axes_are_those_of_the_stored_weight(build, kind, shape, _):
    op, _ = op_with(build, kind, shape)
    per_block = op.kernel_shape[1:3]
    outputs = shape[op.out_axis] // (op.groups if op.node.op_type == "Conv" else 1)
    inputs = shape[op.in_axis] // (op.groups if op.node.op_type == "ConvTranspose" else 1)
    assert (inputs, outputs) == per_block


@pytest.mark.parametrize(("bias", "rows"), [((4,), True), ((1, 4), True), ((1,), True), ((4, 1), False)])
def test_biases(build, bias, rows):
    op, _ = op_with(build, "Gemm<beta=2.0>", (3, 4), b=np.ones(bias, np.float32))
    assert op.bias is op.node.inputs[2]
    if rows:
        np.testing.assert_array_equal(op.bias_rows(), np.full((1, 4), 2.0))
    else:
        assert op.bias_rows() is None


def test_an_operator_without_a_bias_adds_zeros(build):
    op, _ = op_with(build, "MatMul", (2, 3, 4))
    assert op.bias is None
    np.testing.assert_array_equal(op.bias_rows(), np.zeros((2, 4)))


def test_a_weight_of_alpha_0_has_no_inverse(build):
    op, weight = op_with(build, "Gemm<alpha=0.0>", (3, 4))
    with pytest.raises(ZeroDivisionError, match="alpha"):
        op.weight_of(op.as_matrix(weight))


def test_what_is_no_linear_operator(build):
    model = build("(float[2,3] x, float[3,4] w) => (float[2,4] y) { h = MatMul(x, w) y = Relu(h) }")
    assert [linear_op_of(node) for node in model.graph] == [None, None]


@pytest.mark.parametrize("kind", ["Conv<group=3>", "ConvTranspose<group=3>", "Conv<group=0>", "Conv<group=-1>"])
def test_a_weight_without_such_groups_is_none(build, kind):
    assert op_with(build, kind, (4, 3, 2, 2))[0] is None


def test_the_operators_of_a_shared_weight(build):
    w = np.ones((3, 3), np.float32)
    model = build("(float[2,3] x) => (float[2,3] y) { a = MatMul(x, w) b = Gemm<transB=1>(a, w) y = Add(b, w) }", w=w)
    ops = linear_ops_of(model.graph.initializers["w"])
    assert [op.node.op_type for op in ops] == ["MatMul", "Gemm"]


def test_shapes_are_known_without_reading_the_weight(build, monkeypatch):
    op, weight = op_with(build, "Conv", (4, 3, 2, 5))
    monkeypatch.setattr(type(op.weight.const_value), "numpy", lambda self: pytest.fail("it was read"))
    assert (op.weight_shape, op.channels_in, op.channels_out) == (weight.shape, 3, 4)
