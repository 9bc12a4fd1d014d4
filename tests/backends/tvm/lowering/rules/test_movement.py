"""Nodes that move data: slices, splits, joins, pixels from channels, repetitions."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tvm", reason="needs graphpress[tvm]")

from kernel_checks.nodes import Case, check

SHAPE = (2, 20, 4, 6)


def ints(*numbers: int) -> np.ndarray:
    """A constant."""
    return np.array(numbers, np.int64)


SLICES = {
    "channels": (ints(3), ints(15), ints(1), ints(1)),
    "channels apart": (ints(1), ints(20), ints(1), ints(3)),
    "channels backward": (ints(-1), ints(-30), ints(1), ints(-1)),
    "rows and pixels": (ints(1, 0), ints(4, -1), ints(2, 3), ints(2, 1)),
    "every other pixel": (ints(1, 0), ints(4, 6), ints(2, 3), ints(2, 2)),
    "images": (ints(1), ints(2), ints(0), ints(1)),
    "rows backward": (ints(3), ints(-9), ints(2), ints(-1)),
}


def test_parts_are_taken(newest, tmp_path):
    cases = {f"slice {name}": Case("Slice", [SHAPE, *bounds]) for name, bounds in SLICES.items()}
    for axis in range(4):
        size = SHAPE[axis]
        sizes = ints(1, size - 1)
        cases[f"split {axis}"] = Case("Split", [SHAPE, sizes], {"axis": axis}, outputs=2)
    check(cases, newest, tmp_path)


def test_parts_are_joined(newest, tmp_path):
    cases = {}
    for axis in range(4):
        other = tuple(3 if place == axis else size for place, size in enumerate(SHAPE))
        constant = np.ones(other, np.float32)
        cases[f"concat {axis}"] = Case("Concat", [SHAPE, other, constant], {"axis": axis})
    check(cases, newest, tmp_path)


def test_elements_are_moved(newest, tmp_path):
    cases = {
        "pixels": Case("DepthToSpace", [SHAPE], {"blocksize": 2}),
        "pixels crossed": Case("DepthToSpace", [SHAPE], {"blocksize": 2, "mode": "CRD"}),
        "one channel": Case("DepthToSpace", [(2, 9, 4, 6)], {"blocksize": 3}),
        "channels": Case("SpaceToDepth", [SHAPE], {"blocksize": 2}),
        "repeated": Case("Tile", [(2, 3, 4), ints(2, 1, 3)]),
        "expanded": Case("Expand", [(3, 1), ints(2, 3, 4)]),
        "squeezed": Case("Squeeze", [(2, 1, 5, 1), ints(1, 3)]),
        "unsqueezed": Case("Unsqueeze", [(2, 5), ints(1, 3)]),
        "the same": Case("Identity", [SHAPE]),
        "flat": Case("Flatten", [SHAPE]),
    }
    check(cases, newest, tmp_path)
