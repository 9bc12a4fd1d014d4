"""Reductions, positions of extremes, running sums: axes, ties, open sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper

from graphpress.backends.tensorrt.network.reduce import entries
from graphpress.errors import ModelError
from graphpress.ir import to_proto

node = helper.make_node
REDUCTIONS = sorted(name for name in entries() if name.startswith("Reduce"))
X = np.abs(np.random.default_rng(0).normal(size=(2, 3, 4))).astype(np.float32) + 0.1


@pytest.mark.parametrize("axes", [None, [1], [0, -1], []])
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("op_type", REDUCTIONS)
def test_reductions(op_type: str, keepdims: int, axes: list[int] | None, make: Any, bench: Any) -> None:
    constants = {} if axes is None else {"axes": np.array(axes, np.int64)}
    model = make(
        [node(op_type, ["x", *constants], ["y"], keepdims=keepdims)], {"x": ("FLOAT", ["n", 3, "m"])}, ["y"], constants
    )
    bench.agrees(to_proto(model), {"x": X})


@pytest.mark.parametrize("opset", [11, 18])
def test_axes_come_as_attributes_or_inputs(opset: int, make: Any, bench: Any) -> None:
    attributes, constants = ({"axes": [1]}, {}) if opset < 18 else ({}, {"axes": np.array([1])})
    model = make(
        [node("ReduceMax", ["x", *constants], ["y"], **attributes)],
        {"x": ("FLOAT", [2, 3, 4])},
        ["y"],
        constants,
        opset=opset,
    )
    bench.agrees(to_proto(model), {"x": X})


def test_no_axes_may_mean_no_reduction(make: Any, bench: Any) -> None:
    operation = node("ReduceSum", ["x"], ["y"], noop_with_empty_axes=1)
    bench.agrees(to_proto(make([operation], {"x": ("FLOAT", [2, 3, 4])}, ["y"])), {"x": X})


@pytest.mark.parametrize("shift", [0.0, 200.0, -200.0, -np.inf])
def test_log_sum_exp_neither_overflows_nor_underflows(shift: float, make: Any, bench: Any) -> None:
    operation = node("ReduceLogSumExp", ["x", "axes"], ["y"])
    model = make([operation], {"x": ("FLOAT", [2, 3])}, ["y"], {"axes": np.array([1])})
    x = X[:, :, 0] + np.float32(shift)
    (got,) = bench.run(bench.lower(model), {"x": x})
    np.testing.assert_allclose(got, np.logaddexp.reduce(x.astype(np.float64), axis=1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize("size", [4, "n"])
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("op_type", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("rank", [1, 2])
def test_ties_go_to_the_first_or_the_last(op_type: str, last: int, size: Any, rank: int, make: Any, bench: Any) -> None:
    operation = node(op_type, ["x"], ["y"], axis=-1, keepdims=0, select_last_index=last)
    x = np.array([[1, 2, 2, 1], [3, 3, 3, 3]], np.float32)
    model = make([operation], {"x": ("FLOAT", [size] if rank == 1 else [2, size])}, ["y"])
    bench.agrees(to_proto(model), {"x": x[0] if rank == 1 else x})


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("shape", [(5,), (5, 3)])
def test_the_largest_k(shape: tuple[int, ...], largest: int, known: bool, make: Any, bench: Any) -> None:
    operation = node("TopK", ["x", "k"], ["v", "i"], axis=0, largest=largest)
    inputs = {"x": ("FLOAT", ["n", *shape[1:]])} | ({} if known else {"k": ("INT64", [1])})
    k = np.array([3])
    x = np.random.default_rng(1).permutation(int(np.prod(shape))).reshape(shape).astype(np.float32)
    model = make([operation], inputs, ["v", "i"], {"k": k} if known else {})
    bench.agrees(to_proto(model), {"x": x} | ({} if known else {"k": k}))


def test_more_than_tensorrt_gives_is_refused(make: Any, bench: Any) -> None:
    operation = node("TopK", ["x", "k"], ["v", "i"])
    with pytest.raises(ModelError, match="4000 elements, TensorRT gives 3840"):
        bench.lower(make([operation], {"x": ("FLOAT", [5000])}, ["v", "i"], {"k": np.array([4000])}))


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
def test_running_sums(exclusive: int, reverse: int, make: Any, bench: Any) -> None:
    operation = node("CumSum", ["x", "axis"], ["y"], exclusive=exclusive, reverse=reverse)
    model = make([operation], {"x": ("FLOAT", ["n", 3, 4])}, ["y"], {"axis": np.array(-2)})
    bench.agrees(to_proto(model), {"x": X})


def test_booleans(make: Any, bench: Any) -> None:
    nodes = [node("ReduceMax", ["x", "axes"], ["a"]), node("ReduceMin", ["x", "axes"], ["b"])]
    model = make(nodes, {"x": ("BOOL", [2, 2])}, ["a", "b"], {"axes": np.array([1])})
    some, every = bench.run(bench.lower(model), {"x": np.array([[True, False], [True, True]])})
    assert some.tolist() == [[True], [True]]
    assert every.tolist() == [[False], [True]]


def test_they_build(make: Any, bench: Any) -> None:
    nodes = [node(op_type, ["x", "axes"], [op_type]) for op_type in REDUCTIONS]
    nodes += [
        node("ArgMax", ["x"], ["ArgMax"], axis=2, select_last_index=1),
        node("TopK", ["x", "k"], ["v", "i"]),
        node("CumSum", ["x", "zero"], ["CumSum"]),
    ]
    constants = {"axes": np.array([0, 2]), "k": np.array([2]), "zero": np.array(0)}
    outputs = [*REDUCTIONS, "ArgMax", "v", "i", "CumSum"]
    network = bench.lower(make(nodes, {"x": ("FLOAT16", ["n", 3, 4])}, outputs, constants))
    assert bench.build(network) > 0
