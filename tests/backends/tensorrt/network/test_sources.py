"""Tensors from nothing or from a shape: known ones make no layers, open ones are computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from graphpress.errors import ModelError
from graphpress.ir import to_proto

node = helper.make_node
X = np.ones((2, 3, 4), np.float32)


@pytest.mark.parametrize("dims", [[2, 3, 4], ["a", 3, "b"]])
@pytest.mark.parametrize("bounds", [{}, {"start": 1}, {"end": -1}, {"start": -2, "end": 3}, {"start": 2, "end": 1}])
def test_shapes(bounds: dict[str, int], dims: Any, make: Any, bench: Any) -> None:
    bench.agrees(to_proto(make([node("Shape", ["x"], ["y"], **bounds)], {"x": ("FLOAT", dims)}, ["y"])), {"x": X})


@pytest.mark.parametrize("dims", [[2, 3, 4], ["a", 3, "b"]])
def test_sizes(dims: Any, make: Any, bench: Any) -> None:
    bench.agrees(to_proto(make([node("Size", ["x"], ["y"])], {"x": ("FLOAT", dims)}, ["y"])), {"x": X})


@pytest.mark.parametrize("value", [np.array([2.5], np.float32), np.array([7]), np.array([True])])
@pytest.mark.parametrize("known", [True, False])
def test_constants_of_a_shape(value: np.ndarray, known: bool, make: Any, bench: Any) -> None:
    tensor = onnx.numpy_helper.from_array(value)
    nodes = [node("Shape", ["x"], ["s"]), node("ConstantOfShape", ["s"], ["y"], value=tensor)]
    model = make(nodes, {"x": ("FLOAT", [2, 3, 4] if known else ["a", 3, "b"])}, ["y"])
    bench.agrees(to_proto(model), {"x": X})


@settings(max_examples=30, deadline=None)
@given(start=st.integers(-9, 9), limit=st.integers(-9, 9), step=st.sampled_from([1, 2, 3, -1, -4]), dtype=st.data())
def test_ranges(start: int, limit: int, step: int, dtype: Any, make: Any, bench: Any) -> None:
    kind = dtype.draw(st.sampled_from([np.int32, np.int64]))
    feed = {name: np.array(one, kind) for name, one in (("a", start), ("b", limit), ("c", step))}
    inputs = {name: ("INT32" if kind is np.int32 else "INT64", []) for name in feed}
    bench.agrees(to_proto(make([node("Range", [*feed], ["y"])], inputs, ["y"])), feed)


@pytest.mark.parametrize("dims", [[3, 5], ["a", "b"]])
@pytest.mark.parametrize("attributes", [{}, {"k": 1}, {"k": -2, "dtype": onnx.TensorProto.INT32}])
def test_identity_matrices(dims: Any, attributes: dict[str, int], make: Any, bench: Any) -> None:
    model = make([node("EyeLike", ["x"], ["y"], **attributes)], {"x": ("FLOAT", dims)}, ["y"])
    bench.agrees(to_proto(model), {"x": np.ones((3, 5), np.float32)})


def test_strings_are_refused(make: Any, bench: Any) -> None:
    with pytest.raises(ModelError, match="holds strings"):
        bench.lower(make([node("Constant", [], ["y"], value_string="a")], {"x": ("FLOAT", [1])}, ["y"]))


def test_they_build(make: Any, bench: Any) -> None:
    nodes = [
        node("Shape", ["x"], ["s"], start=0, end=1),
        node("Squeeze", ["s", "zero"], ["n"]),
        node("Range", ["start", "n", "step"], ["a"]),
        node("ConstantOfShape", ["s"], ["b"]),
        node("EyeLike", ["x"], ["c"]),
        node("Size", ["x"], ["d"]),
    ]
    constants = {"zero": np.array([0]), "start": np.array(0), "step": np.array(1)}
    network = bench.lower(make(nodes, {"x": ("FLOAT", ["n", 3])}, ["a", "b", "c", "d"], constants))
    assert bench.build(network) > 0
