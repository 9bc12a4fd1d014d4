"""Constants in one run of bytes: where they begin, what is written, and its sum."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tvm", reason="needs graphpress[tvm]")

from graphpress.backends.tvm.kernels.kernel import LARGEST_SLACK
from graphpress.backends.tvm.kernels.map import Map
from graphpress.backends.tvm.kernels.plane import Plane
from graphpress.backends.tvm.kernels.stages import Destination
from graphpress.backends.tvm.plan import ALIGNMENT
from graphpress.backends.tvm.program import Buffer, Constant, Program, Step
from graphpress.backends.tvm.weights import MODULUS, PIECE, gather_weights

PLANE = Plane(16, 1, 1, 16)


def program(*constants: Constant) -> Program:
    """A step for each constant, which reads it."""
    kernel = Map(PLANE, Destination(PLANE), 16)
    return Program(steps=[Step(kernel, {"source": constant, "result": Buffer(PLANE)}) for constant in constants])


def fletcher(data: bytes) -> int:
    """As its definition says it."""
    low = high = 0
    for word in np.frombuffer(data, np.uint32).tolist():
        low = (low + word) % MODULUS
        high = (high + low) % MODULUS
    return high << 32 | low


def test_constants_follow_each_other_and_equal_ones_are_there_once(tmp_path):
    rng = np.random.default_rng(0)
    large = Constant(rng.integers(-128, 128, 2 * PIECE + 5).astype(np.int8))
    small, other = Constant(np.arange(3, dtype=np.float32)), Constant(np.arange(70, dtype=np.int32)[::-1])
    copy = Constant(large.array.copy())
    weights = gather_weights(program(small, large, other, copy, small))
    weights.write(tmp_path / "weights.bin")
    data = (tmp_path / "weights.bin").read_bytes()
    assert len(data) == weights.bytes
    assert weights.offsets[copy] == weights.offsets[large]
    for constant in (small, large, other):
        start = weights.offsets[constant]
        assert start % ALIGNMENT == 0
        assert data[start:].startswith(constant.array.tobytes())
    assert weights.checksum == fletcher(data)


def test_no_constants_are_slack_alone(tmp_path):
    weights = gather_weights(program())
    weights.write(tmp_path / "weights.bin")
    assert (weights.bytes, weights.checksum) == (LARGEST_SLACK, 0)
    assert (tmp_path / "weights.bin").read_bytes() == bytes(LARGEST_SLACK)
