"""Operators of several operands: broadcasting, types, and what has no layer of its own."""

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


def values(shape: tuple[int, ...], dtype: type, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    if dtype is np.bool_:
        return np.asarray(random.random(shape) > 0.5)
    return np.asarray(random.integers(1, 9, shape) * random.choice([-1, 1], shape), dtype)


KINDS = {np.float32: "FLOAT", np.float16: "FLOAT16", np.int32: "INT32", np.int64: "INT64", np.bool_: "BOOL"}


@settings(max_examples=60, deadline=None)
@given(
    shape=st.lists(st.integers(1, 3), min_size=0, max_size=3),
    op_type=st.sampled_from(["Add", "Sub", "Mul", "Div", "Mod", "Less", "GreaterOrEqual", "Equal", "Max", "Where"]),
    dtype=st.sampled_from([np.float32, np.int32, np.int64]),
    data=st.data(),
)
def test_operands_broadcast(shape: list[int], op_type: str, dtype: type, data: Any, make: Any, bench: Any) -> None:
    if op_type == "Mod" and dtype is np.float32:
        return
    inputs, feed = {}, {}
    for name in ("c", "a", "b") if op_type == "Where" else ("a", "b"):
        own = [data.draw(st.sampled_from([1, size])) for size in shape][data.draw(st.integers(0, len(shape))) :]
        kind = np.bool_ if name == "c" else dtype
        opened = [data.draw(st.sampled_from([size, f"{name}{axis}"])) for axis, size in enumerate(own)]
        inputs[name], feed[name] = (KINDS[kind], opened), values(tuple(own), kind, len(feed))
    bench.agrees(to_proto(make([node(op_type, [*inputs], ["y"])], inputs, ["y"])), feed)


@pytest.mark.parametrize("op_type", ["GreaterOrEqual", "LessOrEqual"])
def test_nothing_compares_with_nan(op_type: str, make: Any, bench: Any) -> None:
    inputs = {name: ("FLOAT", [3]) for name in "ab"}
    model = make([node(op_type, ["a", "b"], ["y"])], inputs, ["y"])
    feed = {"a": np.array([np.nan, 1, 2], np.float32), "b": np.array([1, np.nan, 2], np.float32)}
    assert bench.run(bench.agrees(to_proto(model), feed), feed)[0].tolist() == [False, False, True]


@pytest.mark.parametrize("base", [np.float32, np.int32])
@pytest.mark.parametrize("exponent", [np.float32, np.int64])
def test_powers_have_the_type_of_the_base(base: type, exponent: type, make: Any, bench: Any) -> None:
    inputs = {"a": (KINDS[base], [3]), "b": (KINDS[exponent], [3])}
    model = make([node("Pow", ["a", "b"], ["y"])], inputs, ["y"])
    bench.agrees(to_proto(model), {"a": np.array([1, 2, 3], base), "b": np.array([2, 3, 1], exponent)})


@pytest.mark.parametrize("fmod", [0, 1])
def test_remainders_of_integers(fmod: int, make: Any, bench: Any) -> None:
    inputs = {name: ("INT64", [4]) for name in "ab"}
    model = make([node("Mod", ["a", "b"], ["y"], fmod=fmod)], inputs, ["y"])
    bench.agrees(to_proto(model), {"a": np.array([7, -7, 7, -7]), "b": np.array([3, 3, -3, -3])})


@pytest.mark.parametrize(("low", "high"), [(-1.0, 2.0), (None, 2.0), (-1.0, None), (None, None), (2.0, -1.0)])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64])
def test_clips(low: Any, high: Any, known: bool, dtype: type, make: Any, bench: Any) -> None:
    limits = {name: np.array(one, dtype) for name, one in (("low", low), ("high", high)) if one is not None}
    inputs = {"x": (KINDS[dtype], [5])} | ({} if known else {name: (KINDS[dtype], []) for name in limits})
    operands = ["x", "low" if low is not None else "", "high" if high is not None else ""]
    model = make([node("Clip", operands, ["y"])], inputs, ["y"], limits if known else {})
    feed = {"x": np.array([-3, -1, 0, 2, 5], dtype)} | ({} if known else limits)
    network = bench.lower(model)
    wanted = feed["x"] if low is None else np.maximum(feed["x"], limits["low"])
    wanted = wanted if high is None else np.minimum(wanted, limits["high"])
    np.testing.assert_array_equal(bench.run(network, feed)[0], wanted)


def test_a_known_clip_of_floats_is_one_layer(make: Any, bench: Any) -> None:
    limits = {"low": np.float32(0), "high": np.float32(6)}
    network = bench.lower(make([node("Clip", ["x", *limits], ["y"])], {"x": ("FLOAT", [5])}, ["y"], limits))
    assert [network.get_layer(index).type.name for index in range(network.num_layers)] == ["ACTIVATION"]


def test_operator_sets_before_7_broadcast_from_an_axis(make: Any, bench: Any) -> None:
    operation = node("Add", ["x", "b"], ["y"], broadcast=1, axis=1)
    inputs = {"x": ("FLOAT", [2, 3, 4]), "b": ("FLOAT", [3])}
    network = bench.lower(make([operation], inputs, ["y"], opset=6))
    x, b = np.ones((2, 3, 4), np.float32), np.arange(3, dtype=np.float32)
    np.testing.assert_array_equal(bench.run(network, {"x": x, "b": b})[0], x + b[:, None])


@pytest.mark.parametrize(
    ("operation", "kind", "message"),
    [
        (node("Add", ["x", "x"], ["y"]), "INT8", "does not compute in int8"),
        (node("Equal", ["x", "x"], ["y"]), "UINT8", "does not compute in uint8"),
        (node("Mod", ["x", "x"], ["y"], fmod=1), "FLOAT", "no remainder of floats"),
        (node("BitwiseAnd", ["x", "x"], ["y"]), "INT32", "no layers for the bits"),
    ],
)
def test_refusals(operation: onnx.NodeProto, kind: str, message: str, make: Any, bench: Any) -> None:
    with pytest.raises(ModelError, match=message):
        bench.lower(make([operation], {"x": (kind, [2])}, ["y"]))


def test_they_build(make: Any, bench: Any) -> None:
    nodes = [
        node("Add", ["x", "b"], ["a"]),
        node("Mean", ["a", "x", "b"], ["c"]),
        node("GreaterOrEqual", ["c", "b"], ["d"]),
        node("Xor", ["d", "d"], ["e"]),
        node("Where", ["e", "a", "c"], ["f"]),
        node("PRelu", ["f", "b"], ["g"]),
        node("Clip", ["g", "", "s"], ["h"]),
        node("Pow", ["h", "s"], ["k"]),
        node("Mod", ["i", "i"], ["m"]),
        node("BitwiseNot", ["m"], ["n"]),
    ]
    constants = {"b": np.ones((3, 1), np.float16), "s": np.float16(2)}
    inputs = {"x": ("FLOAT16", ["n", 3, 4]), "i": ("INT64", [4])}
    assert bench.build(bench.lower(make(nodes, inputs, ["k", "n"], constants))) > 0
