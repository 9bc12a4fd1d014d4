"""Models that came quantized: scales go with their positions, blocks stay blocks, and what is left can be delivered."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphpress import ir
from graphpress.backends.onnxruntime.backend import OnnxRuntimeBackend
from graphpress.coupling import couple, remove
from graphpress.ir.encoding import encoding_of, set_encoding
from graphpress.manager.prepare import prepare
from graphpress.runtime import Session
from graphpress.targets import load_target


def scales(b: Any, *shape: int) -> Any:
    return b.constant((b.random.random(shape) * 0.05 + 0.02).astype(np.float32))


def integers(b: Any, *shape: int) -> Any:
    return b.constant(b.random.integers(-100, 100, shape).astype(np.int8))


def on_a_grid(b: Any, value: str, size: int, axis: int) -> Any:
    grid = (scales(b, size), b.constant(np.zeros(size, np.int8)))
    return b("DequantizeLinear", b("QuantizeLinear", value, *grid, axis=axis), *grid, axis=axis)


def per_channel(b: Any) -> Any:
    weight = b("DequantizeLinear", integers(b, 8, 6), scales(b, 8), axis=0)
    return b("MatMul", b("Gemm", "x", weight, transB=1), b.weight(8, 4))


def per_channel_of_an_activation(b: Any) -> Any:
    hidden = b("MatMul", "x", b.weight(6, 8))
    return b("MatMul", on_a_grid(b, hidden, 8, axis=1), b.weight(8, 4))


def one_weight_on_two_grids(b: Any) -> Any:
    weight = b.weight(6, 8)
    first, second = (b("MatMul", "x", on_a_grid(b, weight, 8, axis=1)) for _ in range(2))
    return b("MatMul", b("Add", first, b("Relu", second)), b.weight(8, 4))


def blocks_of_what_is_read(b: Any) -> Any:
    weight = b("DequantizeLinear", integers(b, 8, 6), scales(b, 8, 2), axis=1, block_size=3)
    return b("MatMul", b("Gemm", b("MatMul", "x", b.weight(6, 6)), weight, transB=1), b.weight(8, 4))


GRAPHS = [per_channel, per_channel_of_an_activation, one_weight_on_two_grids, blocks_of_what_is_read]


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph.__name__)
def test_what_is_left_is_on_the_grid_that_it_was_on(graph: Any, new_build: Any) -> None:
    build = new_build(3)
    model = ir.from_proto(build.proto({"x": (2, 6)}, [graph(build)]))
    assert prepare(model, {}) == []
    smaller = ir.clone(model)
    coupling = couple(smaller)
    assert [group.size for group in coupling.groups] == [8]
    kept = remove(smaller, coupling, {coupling.groups[0].name: np.arange(8) % 3 != 1})
    assert ir.problems(smaller) == []
    feed = {"x": build.random.normal(size=(2, 6)).astype(np.float32)}
    np.testing.assert_allclose(delivered(smaller, feed), delivered(zeroed(model, kept), feed), rtol=1e-5, atol=1e-6)


def test_an_axis_of_blocks_stays_whole_with_the_reason(new_build: Any) -> None:
    build = new_build(3)
    model = ir.from_proto(build.proto({"x": (2, 6)}, [blocks_of_what_is_read(build)]))
    prepare(model, {})
    assert any(axis.size == 6 and "blocks" in axis.why for axis in couple(model).pinned)


def delivered(model: ir.Model, feed: dict[str, np.ndarray]) -> np.ndarray:
    legal = OnnxRuntimeBackend().prepare(model, load_target("cpu")).delivered
    return next(iter(Session(legal, optimization="none").run(feed).values()))


def zeroed(model: ir.Model, kept: Any) -> ir.Model:
    """A copy in which what was removed of each constant is zero, everything on its grid."""
    copy = ir.clone(model)
    edit = ir.Editor(copy)
    for name, value in copy.graph.initializers.items():
        array, encoding = np.array(ir.constant(value)), encoding_of(value)
        for axis, positions in enumerate(kept.get(name, ())):
            if positions is not None:
                array[(slice(None),) * axis + (np.setdiff1d(np.arange(array.shape[axis]), positions),)] = 0
        edit.set_constant(value, array)
        set_encoding(value, encoding)
    return copy
