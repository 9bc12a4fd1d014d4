"""Operators whose sizes depend on the data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper

from graphpress.ir import to_proto

node = helper.make_node


def numbers(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


@pytest.mark.parametrize("axis", [0, 1, None])
@pytest.mark.parametrize("known", [True, False])
def test_compress(axis: int | None, known: bool, make: Any, bench: Any) -> None:
    condition = np.array([False, True, True])
    attributes = {} if axis is None else {"axis": axis}
    inputs = {"x": ("FLOAT", [4, 3])} | ({} if known else {"c": ("BOOL", [3])})
    model = make([node("Compress", ["x", "c"], ["y"], **attributes)], inputs, ["y"], {"c": condition} if known else {})
    bench.agrees(to_proto(model), {"x": numbers(4, 3)} | ({} if known else {"c": condition}))
