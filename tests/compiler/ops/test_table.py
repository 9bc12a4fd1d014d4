"""The table as a whole, and the facts in it that others build on."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from graphpress import ir
from graphpress.ir import NodeView
from graphpress.ops import Role, Work, lookup, operator_key, table


def test_covers_the_operators_of_the_standard_families() -> None:
    assert len(table()) >= 120


def test_every_entry_is_an_operator_of_onnx() -> None:
    known = {operator_key(schema.name, schema.domain) for schema in onnx.defs.get_all_schemas_with_history()}
    assert set(table()) <= known


def test_both_names_of_the_standard_domain_find_the_entry() -> None:
    assert lookup("Conv") is lookup("Conv", "ai.onnx")
    assert lookup("Conv", "com.example") is None
    assert lookup("NoSuchOperator") is None


@pytest.mark.parametrize("op_type", ["RandomNormal", "RandomUniformLike", "Bernoulli", "Multinomial", "Dropout"])
def test_what_may_differ_between_runs_does_not_fold(op_type: str) -> None:
    spec = lookup(op_type)
    assert spec is not None
    assert not spec.foldable


@pytest.mark.parametrize("op_type", ["BatchNormalization", "QuantizeLinear", "DequantizeLinear", "Softmax", "LRN"])
def test_what_belongs_to_a_certain_axis_is_not_elementwise(op_type: str) -> None:
    spec = lookup(op_type)
    assert spec is not None
    assert not spec.elementwise


def test_only_symmetric_operators_commute() -> None:
    assert {name for name, spec in table().items() if spec.commutative} == {
        "Add", "Mul", "And", "Or", "Xor", "Equal", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Max", "Min", "Mean", "Sum",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("op_type", "attributes", "rank", "weight", "bias", "axis"),
    [
        ("Conv", {}, 4, 1, 2, 0),
        ("ConvTranspose", {}, 4, 1, 2, 1),
        ("Gemm", {}, 2, 1, 2, 1),
        ("Gemm", {"transB": 1}, 2, 1, 2, 0),
        ("MatMul", {}, 3, 1, None, 2),
        ("QLinearConv", {}, 4, 3, 8, 0),
    ],
)
def test_compute_ops_know_their_weight(
    op_type: str, attributes: dict[str, int], rank: int, weight: int, bias: int | None, axis: int
) -> None:
    spec = lookup(op_type)
    assert spec is not None
    facts = spec.quantization
    assert (facts.role, facts.weight, facts.bias) == (Role.COMPUTE, weight, bias)
    assert facts.channel_axis is not None
    assert facts.channel_axis(node(op_type, 1, **attributes), rank) == axis


@pytest.mark.parametrize("op_type", ["Reshape", "MaxPool", "Concat", "Transpose", "Slice", "Pad", "Gather", "Identity"])
def test_what_only_moves_values_shares_one_encoding(op_type: str) -> None:
    spec = lookup(op_type)
    assert spec is not None
    assert spec.quantization.moves_data


@pytest.mark.parametrize(
    ("op_type", "attributes", "inputs", "output", "work"),
    [
        ("Conv", {}, [(1, 8, 9, 9), (16, 8, 3, 3)], (1, 16, 7, 7), Work(16 * 49 * 72)),
        ("Conv", {"group": 8}, [(1, 8, 9, 9), (8, 1, 3, 3), (8,)], (1, 8, 7, 7), Work(8 * 49 * 9, 8 * 49)),
        ("ConvTranspose", {}, [(1, 4, 5, 5), (4, 6, 2, 2)], (1, 6, 10, 10), Work(100 * 24)),
        ("Gemm", {"transA": 1}, [(7, 3), (7, 5)], (3, 5), Work(105)),
        ("MatMul", {}, [(2, 3, 4), (4, 5)], (2, 3, 5), Work(120)),
        ("Einsum", {"equation": "bij,bjk->bik"}, [(2, 3, 4), (2, 4, 5)], (2, 3, 5), Work(120)),
        ("LSTM", {}, [(6, 2, 3), (1, 16, 3), (1, 16, 4)], (6, 1, 2, 4), Work(12 * 16 * 7, 12 * 160)),
        ("Attention", {}, [(1, 2, 5, 8), (1, 2, 7, 8), (1, 2, 7, 4)], (1, 2, 5, 4), Work(70 * 12, 700)),
        ("MaxPool", {"kernel_shape": [2, 2]}, [(1, 3, 4, 4)], (1, 3, 2, 2), Work(0, 48)),
        ("ReduceMean", {}, [(2, 30)], (1, 1), Work(0, 60)),
        ("Reshape", {}, [(2, 6), (1,)], (12,), Work(moves=False)),
    ],
)
def test_cost_by_hand(op_type, attributes, inputs, output, work) -> None:  # type: ignore[no-untyped-def]
    spec = lookup(op_type)
    assert spec is not None
    made = node(op_type, len(inputs), **attributes)
    view = NodeView.of(made, input_shapes=tuple(inputs), output_shapes=(output,))
    assert spec.cost(view) == work


def node(op_type: str, inputs: int, **attributes: object) -> ir.Node:
    """Of so many inputs, or as many as the operator needs."""
    names = [f"i{index}" for index in range(max(inputs, onnx.defs.get_schema(op_type).min_input))]
    proto = onnx.helper.make_graph(
        [onnx.helper.make_node(op_type, names, ["y"], **attributes)],
        "one",
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(np.zeros(1, np.float32), "unused")],
    )
    return next(iter(ir.from_proto(onnx.helper.make_model(proto)).graph))
