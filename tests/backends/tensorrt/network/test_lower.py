"""The frame: names, types, constants, outputs, refusals."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper

from graphpress.backends.tensorrt.network.lower import lower_network
from graphpress.backends.tensorrt.network.table import RULES, WITHOUT_RULE
from graphpress.backends.tensorrt.network.types import weights
from graphpress.errors import ModelError
from graphpress.ir import to_proto
from graphpress.ops.table import table

node = helper.make_node
X = {"x": ("FLOAT", ["batch", 3])}
CONTROL = {"If", "Loop", "Scan"}
"""Operators with a rule that the table of operators says nothing of."""


def layers(network: Any) -> list[Any]:
    return [network.get_layer(index) for index in range(network.num_layers)]


def outputs(network: Any) -> list[Any]:
    return [network.get_output(index) for index in range(network.num_outputs)]


def kinds(network: Any) -> list[str]:
    return [layer.type.name for layer in layers(network)]


# -- the table ------------------------------------------------------------------------------------------------


def test_each_operator_has_a_rule_or_a_reason() -> None:
    assert set(RULES.rules) & set(WITHOUT_RULE) == set()
    assert set(RULES.rules) | set(WITHOUT_RULE) == set(table()) | CONTROL


# -- names and types ------------------------------------------------------------------------------------------


def test_inputs_and_outputs_keep_names_types_and_open_dimensions(make: Any, bench: Any) -> None:
    network = bench.lower(make([node("Relu", ["x"], ["y"])], X, ["y"]))
    given, (result,) = network.get_input(0), outputs(network)
    assert (given.name, tuple(given.shape), given.dtype.name) == ("x", (-1, 3), "FLOAT")
    assert given.get_dimension_name(0) == "batch"
    assert (result.name, tuple(result.shape), result.dtype.name) == ("y", (-1, 3), "FLOAT")


def test_layers_bear_the_names_of_their_nodes(make: Any, bench: Any) -> None:
    network = bench.lower(make([node("HardSwish", ["x"], ["h"], name="act"), node("Abs", ["h"], ["y"])], X, ["y"]))
    assert [layer.name for layer in layers(network)] == ["act", "act #2", "node_of_y"]
    assert [layer.metadata for layer in layers(network)] == [
        "[ONNX Layer: act]", "[ONNX Layer: act]", "[ONNX Layer: node_of_y]",
    ]  # fmt: skip


def test_nameless_nodes_are_called_as_the_parser_calls_them(make: Any, bench: Any) -> None:
    model = make([node("Relu", ["x"], ["h"]), node("Tanh", ["h"], ["y"])], X, ["y"])
    model.graph.outputs[0].type = model.graph.inputs[0].type
    ours, theirs = bench.lower(model), bench.parse(to_proto(model))
    assert [layer.name for layer in layers(ours)] == [layer.name for layer in layers(theirs)]
    assert [layer.metadata for layer in layers(ours)] == [layer.metadata for layer in layers(theirs)]


@pytest.mark.parametrize(
    ("nodes", "names"),
    [
        ([node("Identity", ["x"], ["y"])], ["y"]),
        ([node("Relu", ["x"], ["h"]), node("Identity", ["h"], ["y"])], ["h", "y"]),
        ([node("Relu", ["x"], ["y"]), node("Transpose", ["y"], ["z"], perm=[0, 1])], ["z", "y"]),
        ([node("Relu", ["x"], ["h"]), node("Dropout", ["h"], ["y"])], ["y", "h"]),
        ([node("Constant", [], ["y"], value_floats=[1.0, 2.0])], ["y"]),
        ([node("Relu", ["x"], ["h"])], ["w", "h"]),
    ],
)
def test_outputs_that_are_no_layer_of_their_own_keep_their_names(
    nodes: list[onnx.NodeProto], names: list[str], make: Any, bench: Any
) -> None:
    network = bench.lower(make(nodes, X, names, {"w": np.ones(2, np.float32)}))
    assert [tensor.name for tensor in outputs(network)] == names
    assert bench.build(network) > 0


def test_an_output_that_is_an_input_is_refused(make: Any, bench: Any) -> None:
    model = make([node("Relu", ["x"], ["y"])], X, ["y"])
    model.graph.outputs.append(model.graph.inputs[0])
    with pytest.raises(ModelError, match="is an input too"):
        bench.lower(model)


def test_a_wrong_type_of_an_output_is_refused(make: Any, bench: Any) -> None:
    model = make([node("Cast", ["x"], ["y"], to=onnx.TensorProto.FLOAT16)], X, ["y"])
    model.graph.outputs[0].type = model.graph.inputs[0].type
    with pytest.raises(ModelError, match="is float16 and declared float"):
        bench.lower(model)


# -- constants ------------------------------------------------------------------------------------------------


def test_a_constant_is_one_layer_for_all_readers(make: Any, bench: Any) -> None:
    nodes = [node("Add", ["x", "w"], ["h"]), node("Mul", ["h", "w"], ["y"])]
    network = bench.lower(make(nodes, X, ["y"], {"w": np.ones((1, 3), np.float32)}))
    assert kinds(network) == ["CONSTANT", "ELEMENTWISE", "ELEMENTWISE"]


def test_unread_constants_make_no_layers(make: Any, bench: Any) -> None:
    network = bench.lower(make([node("Relu", ["x"], ["y"])], X, ["y"], {"w": np.ones(3, np.float32)}))
    assert kinds(network) == ["ACTIVATION"]


def test_known_shape_arithmetic_makes_no_layers(make: Any, bench: Any) -> None:
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "one"], ["d"]),
        node("Concat", ["d", "minus"], ["t"], axis=0),
        node("Reshape", ["x", "t"], ["y"]),
    ]
    constants = {"one": np.array([1]), "minus": np.array([-1])}
    network = bench.lower(make(nodes, {"x": ("FLOAT", [4, 6])}, ["y"], constants))
    assert kinds(network) == ["SHUFFLE"]
    assert tuple(outputs(network)[0].shape) == (6, 4)


def test_open_shape_arithmetic_is_computed_by_the_network(make: Any, bench: Any) -> None:
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["d"]),
        node("Concat", ["minus", "d"], ["t"], axis=0),
        node("Reshape", ["x", "t"], ["y"]),
    ]
    constants = {"zero": np.array([0]), "minus": np.array([-1])}
    network = bench.lower(make(nodes, {"x": ("FLOAT", ["n", 6])}, ["y"], constants))
    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    (y,) = bench.run(network, {"x": x})
    np.testing.assert_array_equal(y, x.reshape(6, 4))
    assert bench.build(network) > 0


def test_the_network_keeps_its_constants_alive(make: Any, trt: Any, bench: Any) -> None:
    array = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    network = bench.lower(make([node("Add", ["x", "w"], ["y"])], {"x": ("FLOAT", [64, 64])}, ["y"], {"w": array}))
    gc.collect()
    [constant] = [layer for layer in layers(network) if layer.type == trt.LayerType.CONSTANT]
    constant.__class__ = trt.IConstantLayer
    np.testing.assert_array_equal(constant.weights, array.ravel())


def test_constants_go_with_their_network(make: Any, trt: Any, bench: Any, monkeypatch: Any) -> None:
    seen: list[Any] = []

    def watched(*args: Any) -> Any:
        view, data = weights(*args)
        seen.append(weakref.ref(data))
        return view, data

    monkeypatch.setattr("graphpress.backends.tensorrt.network.layers.weights", watched)
    network = bench.builder.create_network(0)
    model = make(
        [node("Where", ["c", "x", "w"], ["y"])], X | {"c": ("BOOL", [1])}, ["y"], {"w": np.ones(3, np.float32)}
    )
    lower_network(model, trt, network)
    del model
    gc.collect()
    alive = [one() is not None for one in seen]
    assert alive == [True]
    del network
    gc.collect()
    assert seen[0]() is None


@pytest.mark.parametrize(
    ("array", "name"),
    [
        (np.ones((2, 3), np.float16), "HALF"),
        (np.ones((2, 3), ml_dtypes.bfloat16), "BF16"),
        (np.ones((2, 3), ml_dtypes.float8_e4m3fn), "FP8"),
        (np.ones((2, 3), ml_dtypes.int4), "INT4"),
        (np.ones((2, 3), np.int8), "INT8"),
        (np.ones((2, 3), np.int32), "INT32"),
        (np.ones((2, 3), np.int64), "INT64"),
        (np.ones((2, 3), np.bool_), "BOOL"),
        (np.ones((0, 3), np.float32), "FLOAT"),
    ],
)
def test_constants_of_each_type(array: np.ndarray, name: str, trt: Any, bench: Any) -> None:
    network = bench.builder.create_network(0)
    view, data = weights(trt, array)
    tensor = network.add_constant(array.shape, view).get_output(0)
    assert (tensor.dtype.name, tuple(tensor.shape)) == (name, array.shape)
    assert data.nbytes == (array.nbytes + 1) // 2 if name == "INT4" else data.nbytes == array.nbytes


def test_four_bit_numbers_are_packed_low_half_first(trt: Any) -> None:
    _, data = weights(trt, np.array([1, -2, 3], ml_dtypes.int4))
    assert data.tolist() == [0xE1, 0x03]


class Narrow:
    """A TensorRT without 64-bit integers."""

    class DataType:
        INT32 = type("Type", (), {"name": "INT32"})

    @staticmethod
    def Weights(dtype: Any, pointer: int, count: int) -> Any:  # noqa: N802
        return dtype.name, count


def test_integers_are_narrowed_where_there_are_no_wide_ones() -> None:
    _, data = weights(Narrow, np.array([1, np.iinfo(np.int64).max, np.iinfo(np.int64).min]))
    assert data.dtype == np.int32
    assert data.tolist() == [1, np.iinfo(np.int32).max, np.iinfo(np.int32).min]
    with pytest.raises(ModelError, match="beyond 32 bits"):
        weights(Narrow, np.array([1 << 40]))


# -- refusals -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        (
            [node("Bernoulli", ["x"], ["y"], name="n")],
            "node 'n': Bernoulli cannot be lowered: an engine would not draw",
        ),
        ([node("Det", ["x"], ["y"], name="n")], "node 'n': Det cannot be lowered: it has no rule"),
        ([node("Add", ["x", "i"], ["y"], name="n")], "node 'n': its operands differ in type"),
        ([node("Add", ["x", "w"], ["y"], name="n")], "node 'n': TensorRT finds no shape for 'y'"),
        ([node("Dropout", ["x", "", "t"], ["y"], name="n")], "node 'n': it is in training mode"),
        ([node("Squeeze", ["x", "a"], ["y"], name="n")], "node 'n': axes (input 1) is not constant"),
        (
            [node("Gather", ["x", "a"], ["y"], name="n", axis=2)],
            "node 'n': axis 2 does not exist in a tensor of rank 2",
        ),
    ],
)
def test_refusals_name_the_node_and_the_fix(nodes: list[onnx.NodeProto], message: str, make: Any, bench: Any) -> None:
    constants = {"i": np.ones(3, np.int64), "t": np.array(True), "w": np.ones(4, np.float32)}
    model = make(nodes, X | {"a": ("INT64", [1])}, ["y"], constants)
    with pytest.raises(ModelError) as caught:
        bench.lower(model)
    assert message in str(caught.value)
    assert caught.value.fix


def test_operators_of_other_domains_are_refused(make: Any, bench: Any) -> None:
    model = make([node("Relu", ["x"], ["y"])], X, ["y"])
    model.graph[0].domain = "acme"
    with pytest.raises(ModelError, match="Relu cannot be lowered: it is no standard operator"):
        bench.lower(model)


@pytest.mark.parametrize("kind", ["DOUBLE", "UINT16", "INT16", "STRING", "COMPLEX64"])
def test_inputs_of_other_types_are_refused(kind: str, make: Any, bench: Any) -> None:
    with pytest.raises(ModelError, match=r"input 'x': TensorRT has no tensors of type"):
        bench.lower(make([node("Identity", ["x"], ["y"])], {"x": (kind, [2])}, ["y"]))


def test_inputs_of_unknown_rank_are_refused(make: Any, bench: Any) -> None:
    model = make([node("Relu", ["x"], ["y"])], X, ["y"])
    model.graph.inputs[0].shape = None
    with pytest.raises(ModelError, match="its rank is unknown"):
        bench.lower(model)


def test_a_network_may_be_weakly_typed(make: Any, trt: Any, bench: Any) -> None:
    network = bench.builder.create_network(0)
    lower_network(make([node("Relu", ["x"], ["y"])], X, ["y"]), trt, network, strong=False)
    assert [tensor.name for tensor in outputs(network)] == ["y"]
