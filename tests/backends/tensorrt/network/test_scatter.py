"""Writing into a copy of a tensor: positions count from the end where they are negative."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper

from graphpress.errors import ModelError
from graphpress.ir import to_proto

node = helper.make_node


def numbers(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


@pytest.mark.parametrize("op_type", ["ScatterElements", "ScatterND"])
def test_scatters(op_type: str, make: Any, bench: Any) -> None:
    array = np.array([[1, -1, 0]]) if op_type == "ScatterElements" else np.array([[-1, 0], [0, -2], [1, 1]])
    updates = -1 - numbers(*(array.shape if op_type == "ScatterElements" else (3,)))
    inputs = {"x": ("FLOAT", ["n", 3]), "i": ("INT64", array.shape), "u": ("FLOAT", updates.shape)}
    model = make([node(op_type, ["x", "i", "u"], ["y"])], inputs, ["y"])
    bench.agrees(to_proto(model), {"x": numbers(4, 3), "i": array, "u": updates})


@pytest.mark.parametrize("reduction", ["add", "mul", "max", "min"])
@pytest.mark.parametrize("op_type", ["ScatterElements", "ScatterND"])
def test_scatters_that_combine_are_refused(op_type: str, reduction: str, make: Any, bench: Any) -> None:
    inputs = {"x": ("FLOAT", [4, 3]), "i": ("INT64", [1, 3]), "u": ("FLOAT", [1, 3])}
    model = make([node(op_type, ["x", "i", "u"], ["y"], reduction=reduction)], inputs, ["y"])
    with pytest.raises(ModelError, match=f"does not combine \\({reduction}\\)"):
        bench.lower(model)
