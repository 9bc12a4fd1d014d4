"""Reshapes, transposes, pads, tiles: open sizes and operands that come at run time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from graphpress.errors import ModelError
from graphpress.ir import to_proto

node = helper.make_node
RANDOM = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


OPEN = [
    ("Reshape", (2, 3, 4), [("shape", [0, -1])], {}),
    ("Reshape", (2, 3, 4), [("shape", [-1, 2, 0])], {}),
    ("Flatten", (2, 3, 4), [], {"axis": 2}),
    ("Flatten", (2, 3, 4), [], {"axis": 0}),
    ("Flatten", (2, 3, 4), [], {"axis": -1}),
    ("Squeeze", (2, 1, 3, 1), [("axes", [1, -1])], {}),
    ("Unsqueeze", (2, 3), [("axes", [-1, 1])], {}),
    ("Transpose", (2, 3, 4), [], {"perm": [2, 0, 1]}),
    ("Transpose", (2, 3, 4), [], {}),
    ("Expand", (2, 1, 4), [("shape", [3, 1])], {}),
    ("Expand", (3, 1), [("shape", [2, 1, 6])], {}),
    ("Tile", (2, 3), [("repeats", [2, 3])], {}),
    ("Pad", (2, 3), [("pads", [1, 0, 2, 3])], {}),
    ("Pad", (4, 5), [("pads", [-1, 2, -1, -2])], {}),
    ("Pad", (4, 5), [("pads", [3, 4, 3, 4])], {"mode": "reflect"}),
    ("Pad", (4, 5), [("pads", [2, 1, 0, 7])], {"mode": "edge"}),
    ("Pad", (4, 5), [("pads", [2, 1, 0, 3])], {"mode": "wrap"}),
    ("DepthToSpace", (1, 8, 2, 3), [], {"blocksize": 2}),
    ("DepthToSpace", (1, 8, 2, 3), [], {"blocksize": 2, "mode": "CRD"}),
    ("SpaceToDepth", (1, 2, 4, 6), [], {"blocksize": 2}),
    ("Trilu", (2, 4, 5), [("k", 1)], {"upper": 1}),
    ("Trilu", (4, 4), [("k", -2)], {"upper": 0}),
]


@pytest.mark.parametrize("parameters_known", [True, False])
@pytest.mark.parametrize(("op_type", "shape", "parameters", "attributes"), OPEN)
def test_open_sizes(
    op_type: str,
    shape: tuple[int, ...],
    parameters: list[tuple[str, Any]],
    attributes: dict[str, Any],
    parameters_known: bool,
    make: Any,
    bench: Any,
) -> None:
    arrays = {name: np.array(value, np.int64) for name, value in parameters}
    inputs = {"x": ("FLOAT", [f"d{axis}" for axis in range(len(shape))])}
    if not parameters_known:
        inputs |= {name: ("INT64", array.shape) for name, array in arrays.items()}
    operation = node(op_type, ["x", *arrays], ["y"], **attributes)
    model = make([operation], inputs, ["y"], arrays if parameters_known else {})
    feed = {"x": floats(*shape)} | ({} if parameters_known else arrays)
    if op_type in ("Squeeze", "Unsqueeze") and not parameters_known:
        with pytest.raises(ModelError, match="is not constant"):
            bench.lower(model)
    else:
        bench.agrees(to_proto(model), feed)


@settings(max_examples=20, deadline=None)
@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    data=st.data(),
)
def test_expand_broadcasts_both_ways(shape: list[int], data: Any, make: Any, bench: Any) -> None:
    own = [data.draw(st.sampled_from([1, size])) for size in shape]
    wanted = [data.draw(st.sampled_from([1, size])) for size in shape][data.draw(st.integers(0, len(shape) - 1)) :]
    opened = [data.draw(st.sampled_from([size, f"d{axis}"])) for axis, size in enumerate(own)]
    model = make([node("Expand", ["x", "s"], ["y"])], {"x": ("FLOAT", opened)}, ["y"], {"s": np.array(wanted)})
    bench.agrees(to_proto(model), {"x": floats(*own)})


def test_a_shape_of_zeros_keeps_or_empties_axes(make: Any, bench: Any) -> None:
    for allowed, shape in ((0, (2, 3)), (1, (0, 3))):
        operation = node("Reshape", ["x", "s"], ["y"], allowzero=allowed)
        model = make([operation], {"x": ("FLOAT", shape)}, ["y"], {"s": np.array([0, 3])})
        bench.agrees(to_proto(model), {"x": floats(*shape)})


def test_squeeze_without_axes_needs_sizes(make: Any, bench: Any) -> None:
    with pytest.raises(ModelError, match="open dimensions"):
        bench.lower(make([node("Squeeze", ["x"], ["y"])], {"x": ("FLOAT", ["n", 1])}, ["y"]))


def test_they_build(make: Any, bench: Any) -> None:
    nodes = [
        node("Pad", ["x", "pads"], ["a"], mode="reflect"),
        node("DepthToSpace", ["a"], ["b"], blocksize=2),
        node("Transpose", ["b"], ["c"], perm=[0, 2, 3, 1]),
        node("Flatten", ["c"], ["d"], axis=2),
        node("Trilu", ["d"], ["e"]),
        node("Unsqueeze", ["e", "axis"], ["f"]),
        node("Expand", ["f", "shape"], ["g"]),
        node("Tile", ["g", "twice"], ["h"]),
        node("SpaceToDepth", ["a"], ["i"], blocksize=2),
    ]
    constants = {
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        "axis": np.array([0]),
        "shape": np.array([2, 1, 1, 1]),
        "twice": np.array([1, 1, 2, 1]),
    }
    network = bench.lower(make(nodes, {"x": ("FLOAT", ["n", 8, 4, 4])}, ["h", "i"], constants))
    assert bench.build(network) > 0
