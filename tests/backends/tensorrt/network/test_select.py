"""Joining, parting and picking: slices of open sizes, negative positions, bounds that come at run time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import helper

from graphpress.errors import ModelError
from graphpress.ir import to_proto

node = helper.make_node
ENDS = st.sampled_from([-(2**63), -9, -4, -1, 0, 1, 2, 3, 5, 9, 2**31 - 1, 2**63 - 1])


def numbers(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


@settings(max_examples=120, deadline=None)
@given(
    size=st.integers(1, 5),
    start=ENDS,
    end=ENDS,
    step=st.sampled_from([1, 2, 3, -1, -2]),
    form=st.sampled_from(["known", "open", "at run time"]),
)
def test_slices(size: int, start: int, end: int, step: int, form: str, make: Any, bench: Any) -> None:
    assume(step > 0 or end < 2**31 - 1)  # ONNX Runtime takes the largest integer for the end, backwards too
    bounds = {"starts": np.array([start]), "ends": np.array([end])}
    if form == "at run time":
        bounds = {name: np.clip(array, -(2**31), 2**31 - 1) for name, array in bounds.items()}
    inputs = {"x": ("FLOAT", [2, size if form == "known" else "n"])}
    inputs |= {name: ("INT64", [1]) for name in bounds} if form == "at run time" else {}
    constants = {"axes": np.array([1]), "steps": np.array([step])} | ({} if form == "at run time" else bounds)
    model = make([node("Slice", ["x", "starts", "ends", "axes", "steps"], ["y"])], inputs, ["y"], constants)
    feed = {"x": numbers(2, size)} | (bounds if form == "at run time" else {})
    bench.agrees(to_proto(model), feed)


@pytest.mark.parametrize("size", ["n", 7])
@pytest.mark.parametrize(("outputs", "split"), [(3, None), (7, None), (2, [3, 4])])
def test_splits(size: str | int, outputs: int, split: list[int] | None, make: Any, bench: Any) -> None:
    names = [f"y{index}" for index in range(outputs)]
    attributes = {"axis": 1} | ({"num_outputs": outputs} if split is None else {})
    constants = {} if split is None else {"split": np.array(split)}
    model = make([node("Split", ["x", *constants], names, **attributes)], {"x": ("FLOAT", [2, size])}, names, constants)
    bench.agrees(to_proto(model), {"x": numbers(2, 7)})


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("size", ["n", 4])
@pytest.mark.parametrize(
    ("op_type", "indices", "attributes"),
    [
        ("Gather", [[0, -1], [-4, 3]], {"axis": 0}),
        ("Gather", -2, {"axis": 0}),
        ("GatherElements", [[-1, 0, -4], [1, 2, -3]], {"axis": 0}),
        ("GatherND", [[-1, 0], [1, -3]], {}),
        ("GatherND", [[-1], [2], [0], [-3]], {"batch_dims": 1}),
    ],
)
def test_negative_positions_count_from_the_end(
    op_type: str, indices: Any, attributes: dict[str, int], size: Any, known: bool, make: Any, bench: Any
) -> None:
    array = np.array(indices, np.int64)
    inputs = {"x": ("FLOAT", [size, 3])} | ({} if known else {"i": ("INT64", array.shape)})
    model = make([node(op_type, ["x", "i"], ["y"], **attributes)], inputs, ["y"], {"i": array} if known else {})
    bench.agrees(to_proto(model), {"x": numbers(4, 3)} | ({} if known else {"i": array}))


def test_positions_that_cannot_be_negative_are_taken_as_they_are(make: Any, bench: Any) -> None:
    nodes = [node("ArgMax", ["x"], ["i"], axis=0, keepdims=0), node("Gather", ["x", "i"], ["y"])]
    network = bench.agrees(to_proto(make(nodes, {"x": ("FLOAT", [4, 3])}, ["y"])), {"x": numbers(4, 3)})
    kinds = [network.get_layer(index).type.name for index in range(network.num_layers)]
    assert "SELECT" not in kinds


def test_the_width_of_position_tuples_must_be_known(make: Any, bench: Any) -> None:
    inputs = {"x": ("FLOAT", [4, 3]), "i": ("INT64", [2, "k"])}
    with pytest.raises(ModelError, match="last dimension of its indices is open"):
        bench.lower(make([node("GatherND", ["x", "i"], ["y"])], inputs, ["y"]))


def test_they_build(make: Any, bench: Any) -> None:
    nodes = [
        node("Slice", ["x", "two", "last", "one", "minus"], ["a"]),
        node("Split", ["a"], ["b", "c"], axis=0, num_outputs=2),
        node("Concat", ["b", "c", "x"], ["d"], axis=0),
        node("Gather", ["d", "i"], ["e"], axis=1),
        node("GatherND", ["x", "i2"], ["f"]),
        node("GatherElements", ["x", "i2"], ["g"], axis=1),
        node("ScatterElements", ["x", "i2", "g"], ["h"], axis=1),
        node("OneHot", ["i", "five", "pair"], ["k"]),
    ]
    constants = {
        "one": np.array([1]),
        "two": np.array([2]),
        "minus": np.array([-1]),
        "last": np.array([-(2**63)]),
        "five": np.array(5),
        "pair": np.array([0.0, 1.0], np.float32),
        "i2": np.array([[0, -1]]),
    }
    inputs = {"x": ("FLOAT", ["n", 3]), "i": ("INT64", [4])}
    network = bench.lower(make(nodes, inputs, ["e", "f", "h", "k"], constants))
    assert bench.build(network) > 0
