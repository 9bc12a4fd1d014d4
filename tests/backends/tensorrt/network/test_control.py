"""If, Loop and Scan: outer values, known conditions, counts and conditions, nesting."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from graphpress.errors import ModelError
from graphpress.ir import to_proto

node = helper.make_node
FLOAT, INT64, BOOL = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.BOOL
X = np.arange(6, dtype=np.float32).reshape(2, 3)


def body(nodes: list[Any], inputs: dict[str, tuple[int, list[Any]]], outputs: dict[str, tuple[int, list[Any]]]) -> Any:
    infos = [
        [helper.make_tensor_value_info(name, kind, dims) for name, (kind, dims) in values.items()]
        for values in (inputs, outputs)
    ]
    return helper.make_graph(nodes, "body", *infos)


def branch(operation: Any, dims: Any = ("n", 3)) -> Any:
    return body([operation], {}, {operation.output[0]: (FLOAT, list(dims))})


def loop_body(*nodes: Any, going: str = "cond", results: Any = ()) -> Any:
    """A body of a loop that carries ``v`` to ``w``."""
    inputs = {"i": (INT64, []), "cond": (BOOL, []), "v": (FLOAT, [2, 3])}
    outputs = {f"{going}_out": (BOOL, []), "w": (FLOAT, [2, 3]), **{name: (FLOAT, [2, 3]) for name in results}}
    hand_on = [node("Identity", ["cond"], ["cond_out"])] if going == "cond" else []
    return body([*nodes, *hand_on], inputs, outputs)


ADD = node("Add", ["v", "x"], ["w"])


# -- If -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("condition", [True, False])
def test_branches_read_values_from_around(condition: bool, make: Any, bench: Any) -> None:
    operation = node(
        "If",
        ["c"],
        ["y"],
        then_branch=branch(node("Mul", ["x", "two"], ["t"])),
        else_branch=branch(node("Neg", ["h"], ["e"])),
    )
    nodes = [node("Relu", ["x"], ["h"]), operation]
    inputs = {"x": ("FLOAT", ["n", 3]), "c": ("BOOL", [1])}
    model = make(nodes, inputs, ["y"], {"two": np.float32(2) * np.ones(1, np.float32)})
    network = bench.agrees(to_proto(model), {"x": X, "c": np.array([condition])})
    assert bench.build(network) > 0


@pytest.mark.parametrize("condition", [True, False])
def test_a_known_condition_leaves_one_branch(condition: bool, make: Any, bench: Any) -> None:
    branches = {"then_branch": branch(node("Abs", ["x"], ["t"])), "else_branch": branch(node("Neg", ["x"], ["e"]))}
    model = make([node("If", ["c"], ["y"], **branches)], {"x": ("FLOAT", ["n", 3])}, ["y"], {"c": np.array(condition)})
    network = bench.agrees(to_proto(model), {"x": X})
    assert network.num_layers == 1 + (network.get_layer(0).get_output(0).name != "y")


def test_conditionals_nest(make: Any, bench: Any) -> None:
    inner = node(
        "If",
        ["d"],
        ["t"],
        then_branch=branch(node("Abs", ["x"], ["a"])),
        else_branch=branch(node("Exp", ["x"], ["b"])),
    )
    outer = node("If", ["c"], ["y"], then_branch=branch(inner), else_branch=branch(node("Neg", ["x"], ["e"])))
    inputs = {"x": ("FLOAT", [2, 3]), "c": ("BOOL", []), "d": ("BOOL", [])}  # the builder fails on open ones
    proto = to_proto(make([outer], inputs, ["y"]))
    for c in (True, False):
        for d in (True, False):
            network = bench.agrees(proto, {"x": X, "c": np.array(c), "d": np.array(d)})
    assert bench.build(network) > 0


def test_branches_of_different_ranks_are_refused(make: Any, bench: Any) -> None:
    branches = {
        "then_branch": branch(node("Abs", ["x"], ["t"])),
        "else_branch": branch(node("Flatten", ["r"], ["e"], axis=0), ["a", "b"]),
    }
    branches["else_branch"].node[0].CopyFrom(node("ReduceSum", ["x"], ["e"], keepdims=0))
    inputs = {"x": ("FLOAT", ["n", 3]), "c": ("BOOL", [])}
    with pytest.raises(ModelError, match="different ranks"):
        bench.lower(make([node("If", ["c"], ["y"], **branches)], inputs, ["y"]))


# -- Loop -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False])
def test_a_count_ends_a_loop(known: bool, make: Any, bench: Any) -> None:
    operation = node("Loop", ["m", "", "x"], ["y"], body=loop_body(ADD))
    inputs = {"x": ("FLOAT", [2, 3])} | ({} if known else {"m": ("INT64", [])})
    count = {"m": np.array(3)}
    model = make([operation], inputs, ["y"], count if known else {})
    network = bench.agrees(to_proto(model), {"x": X} | ({} if known else count))
    if known:
        assert bench.build(network) > 0


def test_results_are_collected(make: Any, bench: Any) -> None:
    nodes = [ADD, node("Cast", ["i"], ["f"], to=FLOAT), node("Mul", ["w", "f"], ["s"])]
    operation = node("Loop", ["m", "go", "x"], ["y", "z"], body=loop_body(*nodes, results=["s"]))
    model = make([operation], {"x": ("FLOAT", [2, 3])}, ["y", "z"], {"m": np.array(4), "go": np.array(True)})
    assert bench.build(bench.agrees(to_proto(model), {"x": X})) > 0


def test_a_condition_ends_a_loop(make: Any, bench: Any) -> None:
    nodes = [
        ADD,
        node("ReduceMax", ["w"], ["largest"], keepdims=0),
        node("Less", ["largest", "limit"], ["while_out"]),
    ]
    operation = node("Loop", ["", "go", "x"], ["y"], body=loop_body(*nodes, going="while"))
    constants = {"limit": np.float32(20) * np.ones((), np.float32), "go": np.array(True)}
    model = make([operation], {"x": ("FLOAT", [2, 3])}, ["y"], constants)
    assert bench.build(bench.agrees(to_proto(model), {"x": X})) > 0


@pytest.mark.parametrize("go", [True, False])
def test_a_loop_may_not_start(go: bool, make: Any, bench: Any) -> None:
    operation = node("Loop", ["m", "go", "x"], ["y"], body=loop_body(ADD))
    model = make([operation], {"x": ("FLOAT", [2, 3]), "go": ("BOOL", [])}, ["y"], {"m": np.array(3)})
    bench.agrees(to_proto(model), {"x": X, "go": np.array(go)})


def test_what_is_collected_needs_a_count(make: Any, bench: Any) -> None:
    nodes = [ADD, node("Identity", ["w"], ["s"]), node("Less", ["i", "five"], ["while_out"])]
    operation = node("Loop", ["m", "", "x"], ["y", "z"], body=loop_body(*nodes, going="while", results=["s"]))
    constants = {"m": np.array(9), "five": np.array(5)}
    with pytest.raises(ModelError, match="number of iterations that is open"):
        bench.lower(make([operation], {"x": ("FLOAT", [2, 3])}, ["y", "z"], constants))


def test_a_loop_without_an_end_is_refused(make: Any, bench: Any) -> None:
    operation = node("Loop", ["", "", "x"], ["y"], body=loop_body(ADD))
    with pytest.raises(ModelError, match="never ends"):
        bench.lower(make([operation], {"x": ("FLOAT", [2, 3])}, ["y"]))


# -- Scan -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dims", [[2, 3], ["n", 3], [2, "m"]])
@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("backwards", [0, 1])
def test_scans(dims: Any, axis: int, backwards: int, make: Any, bench: Any) -> None:
    width = 3 if axis == 0 else 2
    inner = body(
        [node("Add", ["v", "row"], ["w"]), node("Mul", ["w", "row"], ["s"])],
        {"v": (FLOAT, [width]), "row": (FLOAT, [width])},
        {"w": (FLOAT, [width]), "s": (FLOAT, [width])},
    )
    attributes = {
        "num_scan_inputs": 1,
        "scan_input_axes": [axis],
        "scan_output_axes": [1],
        "scan_input_directions": [backwards],
        "scan_output_directions": [1 - backwards],
    }
    operation = node("Scan", ["start", "x"], ["y", "z"], body=inner, **attributes)
    model = make([operation], {"x": ("FLOAT", dims)}, ["y", "z"], {"start": np.zeros(width, np.float32)})
    network = bench.agrees(to_proto(model), {"x": X})
    if dims == [2, 3]:
        assert bench.build(network) > 0


def test_scans_with_a_batch_axis_are_refused(make: Any, bench: Any) -> None:
    inner = body([node("Identity", ["row"], ["s"])], {"row": (FLOAT, [3])}, {"s": (FLOAT, [3])})
    operation = node("Scan", ["", "x"], ["z"], body=inner, num_scan_inputs=1)
    with pytest.raises(ModelError, match="operator set 8"):
        bench.lower(make([operation], {"x": ("FLOAT", [1, 2, 3])}, ["z"], opset=8))
