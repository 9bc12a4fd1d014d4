"""Resize and Pad: other sizes, by factors and by sizes, and borders of all kinds."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tvm", reason="needs graphpress[tvm]")

from kernel_checks.nodes import Case, check

SHAPE = (2, 5, 4, 6)


def floats(*numbers: float) -> np.ndarray:
    """A constant."""
    return np.array(numbers, np.float32)


def ints(*numbers: int) -> np.ndarray:
    """A constant."""
    return np.array(numbers, np.int64)


def test_sizes_change(newest, tmp_path):
    twice, sizes = floats(1, 1, 2, 2), ints(2, 5, 7, 3)
    cases = {
        "nearest": Case("Resize", [SHAPE, None, twice], {"coordinate_transformation_mode": "asymmetric"}),
        "linear": Case("Resize", [SHAPE, None, twice], {"mode": "linear"}),
        "cubic": Case("Resize", [SHAPE, None, None, sizes], {"mode": "cubic"}),
        "sizes": Case("Resize", [SHAPE, None, None, sizes], {"mode": "linear"}),
        "axes": Case("Resize", [SHAPE, None, None, ints(8, 3)], {"mode": "linear", "axes": [2, 3]}),
        "line": Case("Resize", [(2, 5, 6), None, floats(1, 1, 1.5)], {"mode": "linear"}),
    }
    check(cases, newest, tmp_path)


def test_borders_are_added(newest, tmp_path):
    planes = ints(0, 0, 1, 2, 0, 0, 2, 1)
    cases = {mode: Case("Pad", [SHAPE, planes], {"mode": mode}) for mode in ("constant", "edge", "reflect")}
    cases["channels"] = Case("Pad", [SHAPE, ints(0, 2, 0, 0, 1, 3, 0, 0)])
    cases["some axes"] = Case("Pad", [SHAPE, ints(1, 2), None, ints(3)])
    cases["line"] = Case("Pad", [(2, 5, 6), ints(0, 0, 2, 0, 0, 1)], {"mode": "edge"})
    check(cases, newest, tmp_path)
