"""Linear operators as matrix products: rows @ matrix + bias is what ONNX Runtime computes."""

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from graphpress.analysis.linear import linear_op_of
from graphpress.analysis.linear.rows import RowSampling, result_rows, rows_of, samples_of
from graphpress.errors import GraphpressError
from graphpress.ir import from_proto
from graphpress.runtime import Session

RANDOM = np.random.default_rng(0)


def normal(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


def one_node(op, data, weight, bias=None, **attributes):
    """A model of one node, and what it makes of the data."""
    names = ["x", "w"] if bias is None else ["x", "w", "b"]
    node = helper.make_node(op, names, ["y"], name="node", **attributes)
    constants = [numpy_helper.from_array(weight, "w")]
    constants += [] if bias is None else [numpy_helper.from_array(bias, "b")]
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, data.shape)
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "g", [x], [y], constants)
    return from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10))


def agrees(model, data):
    op = linear_op_of(model.graph[0])
    result = Session(model).run({"x": data})["y"]
    rows, bias = rows_of(op, data), op.bias_rows()
    expected = result_rows(op, result)
    assert rows.shape[:2] == expected.shape[:2]
    assert (rows.shape[0], rows.shape[2], expected.shape[2]) == op.matrix_shape
    actual = rows.astype(np.float64) @ op.matrix().astype(np.float64) + bias[:, None, :]
    np.testing.assert_allclose(actual, expected, atol=2e-4)
    weight = model.graph.initializers["w"].const_value.numpy()
    np.testing.assert_allclose(op.weight_of(op.matrix()), weight, rtol=1e-6)
    np.testing.assert_array_equal(op.from_matrix(op.as_matrix(weight)), weight)
    return op, result


@st.composite
def convolutions(draw, op):
    rank = draw(st.integers(1, 3 if op == "Conv" else 2))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    channels, outputs = groups * draw(st.integers(1, 2)), draw(st.integers(1, 3))

    def each(low, high):
        return [draw(st.integers(low, high)) for _ in range(rank)]

    kernel, strides, dilations = each(1, 3), each(1, 3), each(1, 2)
    attributes = {"strides": strides, "dilations": dilations, "group": groups}
    if op == "Conv":
        attributes["auto_pad"] = draw(st.sampled_from(["NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
        if attributes["auto_pad"].startswith("SAME"):
            attributes["dilations"] = [1] * rank
        shape = (outputs * groups, channels // groups, *kernel)
    else:
        attributes["auto_pad"] = "NOTSET"
        attributes["output_padding"] = [draw(st.integers(0, stride - 1)) for stride in strides]
        shape = (channels, outputs, *kernel)
    if attributes["auto_pad"] == "NOTSET" and draw(st.booleans()):
        attributes["pads"] = each(0, 2) + each(0, 2)
    sizes = each(3, 7)
    bias = normal(outputs * groups) if draw(st.booleans()) else None
    return normal(draw(st.integers(1, 3)), channels, *sizes), normal(*shape), bias, attributes


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_convolutions_of_every_geometry(op):
    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(convolutions(op))
    def check(drawn):
        data, weight, bias, attributes = drawn
        try:
            model = one_node(op, data, weight, bias, **attributes)
            Session(model).run({"x": data})
        except GraphpressError:
            assume(False)
        agrees(model, data)

    check()


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "NOTSET"])
@pytest.mark.parametrize("given_shape", [None, [11, 12], [12, 9]])
def test_transposed_convolutions_that_say_how_large_the_result_is(auto_pad, given_shape):
    if given_shape is None and auto_pad == "NOTSET":
        pytest.skip("says nothing")
    data, weight = normal(2, 2, 5, 6), normal(2, 3, 4, 3)
    attributes = {"strides": [2, 2], "auto_pad": auto_pad}
    if given_shape:
        attributes["output_shape"] = given_shape
    agrees(one_node("ConvTranspose", data, weight, normal(3), **attributes), data)


@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("alpha", [1.0, 0.25])
@pytest.mark.parametrize("bias", [None, (4,), (1, 4), (1,)])
def test_gemm(trans_a, trans_b, alpha, bias):
    data = normal(5, 3).T.copy() if trans_a else normal(5, 3)
    weight = normal(4, 3) if trans_b else normal(3, 4)
    bias = None if bias is None else normal(*bias)
    model = one_node("Gemm", data, weight, bias, transA=trans_a, transB=trans_b, alpha=alpha, beta=0.5)
    op, _ = agrees(model, data)
    assert samples_of(op, data) == 5


@pytest.mark.parametrize(
    ("data", "weight"),
    [
        ((5, 3), (3, 4)),
        ((2, 5, 3), (3, 4)),
        ((2, 6, 5, 3), (3, 4)),
        ((2, 6, 5, 3), (6, 3, 4)),
        ((2, 6, 5, 3), (1, 3, 4)),
        ((6, 5, 3), (6, 3, 4)),
        ((5, 3), (6, 3, 4)),
        ((2, 1, 5, 3), (1, 6, 3, 4)),
        ((3,), (3, 4)),
    ],
)
def test_matmul(data, weight):
    data = normal(*data)
    agrees(one_node("MatMul", data, normal(*weight)), data)


def test_a_bias_that_differs_from_row_to_row_is_none():
    data = normal(5, 3)
    assert linear_op_of(one_node("Gemm", data, normal(3, 4), normal(5, 4)).graph[0]).bias_rows() is None


@pytest.mark.parametrize("groups", [1, 2])
def test_sampled_rows_are_some_of_all(groups):
    data = normal(3, 4, 6, 6)
    op, result = agrees(one_node("Conv", data, normal(4, 4 // groups, 3, 3), group=groups), data)
    sampling = RowSampling(5)
    some, told = rows_of(op, data, sampling), result_rows(op, result, sampling)
    assert some.shape[:2] == told.shape[:2] == (groups, 15)
    np.testing.assert_allclose(some @ op.matrix(), told, atol=1e-4)
    everything = {row.tobytes() for row in rows_of(op, data)[0]}
    assert len({row.tobytes() for row in some[0]} & everything) == 15


def test_a_stream_in_pieces_gives_the_rows_of_the_whole():
    data = normal(6, 4, 6, 6)
    op = linear_op_of(one_node("Conv", data, normal(4, 4, 3, 3)).graph[0])
    pieces = [rows_of(op, data[start : start + 2], RowSampling(5, start)) for start in (0, 2, 4)]
    np.testing.assert_array_equal(np.concatenate(pieces, axis=1), rows_of(op, data, RowSampling(5)))


def test_sampling_reaches_every_position():
    chosen = RowSampling(4).chosen(200, 49)
    assert set(chosen.ravel()) == set(range(49))
    assert all(len(set(row)) == 4 for row in chosen)
