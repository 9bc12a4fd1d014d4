"""The analysis itself: zeroing, in the original, every weight slice that belongs to removed positions gives the same
output as removing those positions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphpress import ir
from graphpress.coupling import Coupling, Keep, couple, remove
from graphpress.runtime import Session

Graph = Callable[[Any], tuple[dict[str, tuple[int, ...]], list[str]]]
IMAGE = {"x": (2, 3, 6, 6)}


def plain(b: Any) -> Any:
    hidden = b("Relu", b.conv("x", 3, 8, 3))
    return IMAGE, [b.conv(hidden, 8, 4)]


def residual(b: Any) -> Any:
    stem = b.conv("x", 3, 8)
    branch = b.conv(b("Relu", b.conv(stem, 8, 6, 3)), 6, 8)
    return IMAGE, [b.conv(b("Add", stem, branch), 8, 4)]


def concat_then_split(b: Any) -> Any:
    joined = b("Concat", b.conv("x", 3, 4), b.conv("x", 3, 6), axis=1)
    first, second = b("Split", joined, b.constant(np.array([7, 3])), outputs=2, axis=1)
    return IMAGE, [b.conv(first, 7, 4), b.conv(second, 3, 2)]


def sliced(b: Any) -> Any:
    hidden = b.conv("x", 3, 8)
    start, end, axis, step = (b.constant(np.array([number])) for number in (6, 1, 1, -2))
    return IMAGE, [
        b.conv(b("Gather", hidden, b.constant(np.array([5, 1, 3])), axis=1), 3, 4),
        b("Identity", b.conv(b("Slice", hidden, start, end, axis, step), 3, 2)),
    ]


def sliced_with_narrow_bounds(b: Any) -> Any:
    hidden = b.conv("x", 3, 8)
    start, end, axis, step = (b.constant(np.array([number], np.int32)) for number in (0, 7, 1, 2))
    return IMAGE, [b.conv(b("Slice", hidden, start, end, axis, step), 4, 3), b.conv(hidden, 8, 2)]


def expanded(b: Any) -> Any:
    """Targets that are shorter than the result: constant, with and without the channels, and computed."""
    hidden = b.conv("x", 3, 8)
    pooled = b("GlobalAveragePool", hidden)
    targets = [b.constant(np.array([6, 6])), b.constant(np.array([8, 6, 6])), b("Shape", hidden, start=1)]
    return IMAGE, [b.conv(b("Expand", pooled, target), 8, 2) for target in targets]


def one_hot(b: Any) -> Any:
    depth, values = b.constant(np.array(4)), b.constant(np.array([0, 1], np.float32))
    hidden = b("MatMul", b("OneHot", b("Cast", "x", to=7), depth, values), b.weight(4, 8))
    return {"x": (2, 5)}, [b("MatMul", hidden, b.weight(8, 3))]


def depthwise(b: Any) -> Any:
    hidden = b("Clip", b.conv("x", 3, 8), b.constant(np.float32(0)), b.constant(np.float32(6)))
    return IMAGE, [b.conv(b.conv(hidden, 8, 8, 3, group=8), 8, 4)]


def depthwise_multiplied(b: Any) -> Any:
    return IMAGE, [b.conv(b.conv(b.conv("x", 3, 4), 4, 12, 3, group=4), 12, 4)]


def grouped(b: Any) -> Any:
    return IMAGE, [b.conv(b.conv(b.conv("x", 3, 12), 12, 8, 3, group=4), 8, 4)]


def shuffled(b: Any) -> Any:
    hidden = b.conv(b.conv("x", 3, 12), 12, 12, 1, group=3)
    table = b("Reshape", hidden, b.constant(np.array([0, 3, 4, 6, 6])))
    flat = b("Reshape", b("Transpose", table, perm=[0, 2, 1, 3, 4]), b.constant(np.array([0, 12, 6, 6])))
    return IMAGE, [b.conv(flat, 12, 4)]


def flattened(b: Any) -> Any:
    hidden = b("Flatten", b.conv("x", 3, 5))
    return IMAGE, [b("Gemm", b("Relu", b("Gemm", hidden, b.weight(7, 180), b.weight(7), transB=1)), b.weight(7, 3))]


def normed(b: Any) -> Any:
    hidden = b("InstanceNormalization", b.conv("x", 3, 6), b.weight(6), b.weight(6))
    variance = b.constant(np.abs(b.random.normal(size=6)).astype(np.float32) + 1)
    hidden = b("BatchNormalization", hidden, b.weight(6), b.weight(6), b.weight(6), variance)
    return IMAGE, [b.conv(b("PRelu", hidden, b.weight(6, 1, 1)), 6, 4)]


def group_normed(b: Any) -> Any:
    hidden = b("GroupNormalization", b.conv("x", 3, 8), b.weight(8), b.weight(8), num_groups=4)
    return IMAGE, [b.conv(hidden, 8, 4)]


def squeeze_excite(b: Any) -> Any:
    hidden = b.conv("x", 3, 8)
    gate = b("Sigmoid", b.conv(b("Relu", b.conv(b("GlobalAveragePool", hidden), 8, 4)), 4, 8))
    return IMAGE, [b.conv(b("Mul", hidden, gate), 8, 4)]


def transposed_conv(b: Any) -> Any:
    hidden = b("ConvTranspose", b.conv("x", 3, 6), b.weight(6, 4, 2, 2), b.weight(4), strides=[2, 2])
    hidden = b("ConvTranspose", hidden, b.weight(4, 3, 2, 2), b.weight(6), group=2)
    return IMAGE, [b.conv(b("MaxPool", hidden, kernel_shape=[2, 2]), 6, 2)]


def padded_shortcut(b: Any) -> Any:
    stem = b.conv("x", 3, 4)
    wide = b("Pad", stem, b.constant(np.array([0, 2, 0, 0, 0, 2, 0, 0])))
    return IMAGE, [b.conv(b("Add", wide, b.conv(stem, 4, 8)), 8, 4)]


def padded_with_a_number(b: Any) -> Any:
    stem = b.conv("x", 3, 4)
    wide = b("Pad", stem, b.constant(np.array([1, 3])), b.constant(np.float32(2)), b.constant(np.array([1])))
    return IMAGE, [b.conv(b("Add", wide, b.conv(stem, 4, 8)), 8, 4)]


def shortcut_of_every_second_pixel(b: Any) -> Any:
    """The identity of He et al. 2015, option A: every second pixel, the new channels zero, on either side."""
    starts, ends, axes, steps = (b.constant(np.array(numbers)) for numbers in ([0, 0], [6, 6], [2, 3], [2, 2]))
    stem = b("Relu", b.conv("x", 3, 4))
    few = b("Slice", stem, starts, ends, axes, steps)
    zeros = b.constant(np.zeros((2, 2, 3, 3), np.float32))
    branch = b("Conv", stem, b.weight(8, 4, 2, 2), strides=[2, 2])
    return IMAGE, [b.conv(b("Relu", b("Add", b("Concat", zeros, few, zeros, axis=1), branch)), 8, 4)]


def picked_by_coordinates(b: Any) -> Any:
    """How torch.export writes ``x[:, order]``."""
    first = b("Transpose", b.conv("x", 3, 8), perm=[1, 0, 2, 3])
    picked = b("GatherND", first, b.constant(np.array([[5], [1], [-5], [7], [0]])))
    return IMAGE, [b.conv(b("Transpose", picked, perm=[1, 0, 2, 3]), 5, 4)]


def depth_to_space(b: Any) -> Any:
    up = b("DepthToSpace", b.conv("x", 3, 12), blocksize=2)
    down = b("SpaceToDepth", b.conv(up, 3, 5), blocksize=2)
    return IMAGE, [b.conv(down, 20, 4)]


def perceptron(b: Any) -> Any:
    hidden = b("Gelu", b("Add", b("MatMul", "x", b.weight(6, 10)), b.weight(10)))
    return {"x": (2, 5, 6)}, [b("MatMul", hidden, b.weight(10, 6))]


def heads(b: Any) -> Any:
    """Three heads of width four, written with Reshape and Transpose; queries and keys without bias."""

    def split_heads(value: str, order: list[int]) -> Any:
        return b("Transpose", b("Reshape", value, b.constant(np.array([0, 5, 3, 4]))), perm=order)

    query, key, value = (b("MatMul", "x", b.weight(6, 12)) for _ in range(3))
    scores = b("Softmax", b("MatMul", split_heads(query, [0, 2, 1, 3]), split_heads(key, [0, 2, 3, 1])), axis=-1)
    mixed = b("Transpose", b("MatMul", scores, split_heads(value, [0, 2, 1, 3])), perm=[0, 2, 1, 3])
    return {"x": (2, 5, 6)}, [b("MatMul", b("Reshape", mixed, b.constant(np.array([0, 5, 12]))), b.weight(12, 6))]


def attention(b: Any) -> Any:
    query, key, value = (b("MatMul", "x", b.weight(6, width)) for width in (12, 6, 4))
    mixed = b("Attention", query, key, value, q_num_heads=4, kv_num_heads=2, scale=0.5)
    return {"x": (2, 5, 6)}, [b("MatMul", mixed, b.weight(8, 6))]


def rotary(b: Any) -> Any:
    angles = b.random.normal(size=(2, 5, 2)).astype(np.float32)
    cosine, sine = b.constant(np.cos(angles)), b.constant(np.sin(angles))
    query, key, value = (b("MatMul", "x", b.weight(6, 12)) for _ in range(3))
    query, key = (b("RotaryEmbedding", vector, cosine, sine, num_heads=3) for vector in (query, key))
    mixed = b("Attention", query, key, value, q_num_heads=3, kv_num_heads=3, scale=0.5)
    return {"x": (2, 5, 6)}, [b("MatMul", mixed, b.weight(12, 6))]


def einsum(b: Any) -> Any:
    hidden = b("Einsum", "x", b.weight(6, 10), equation="bsi,ih->bsh")
    return {"x": (2, 5, 6)}, [b("Einsum", hidden, b.weight(4, 10), equation="...h,oh->...o")]


GRAPHS: list[Graph] = [
    plain, residual, concat_then_split, sliced, sliced_with_narrow_bounds, expanded, depthwise, depthwise_multiplied,
    grouped, shuffled, flattened, normed, group_normed, squeeze_excite, transposed_conv, padded_shortcut,
    padded_with_a_number, shortcut_of_every_second_pixel, picked_by_coordinates,
    depth_to_space, perceptron, heads, attention, rotary, einsum, one_hot,
]  # fmt: skip


@pytest.mark.parametrize("blocks", ["whole", "within"])
@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph.__name__)
def test_zeroing_equals_removing(graph: Graph, blocks: Any, new_build: Any) -> None:
    build = new_build(7)
    inputs, outputs = graph(build)
    model = ir.from_proto(build.proto(inputs, outputs))
    coupling = couple(model, blocks=blocks)
    assert coupling.channels.notes == []
    assert coupling.groups, "nothing could be removed"
    feed = {name: build.random.normal(size=shape).astype(np.float32) for name, shape in inputs.items()}
    for _ in range(4):
        keep = {group.name: some_of(group.size, build.random) for group in coupling.groups}
        smaller = ir.clone(model)
        kept = remove(smaller, couple(smaller, blocks=blocks), keep)
        assert ir.problems(smaller) == []
        zeroed = zero(model, kept)
        for masked, removed in zip(run(zeroed, feed), run(smaller, feed), strict=True):
            np.testing.assert_allclose(removed, masked, rtol=1e-4, atol=1e-4)


def test_a_constant_node_is_cut_where_it_stands(new_build: Any) -> None:
    build = new_build(7)
    shift = build("Constant", value_floats=[float(number) for number in range(10)])
    hidden = build("Add", build("MatMul", "x", build.weight(6, 10)), shift)
    model = ir.from_proto(build.proto({"x": (2, 6)}, [build("MatMul", hidden, build.weight(10, 4))]))
    kept = remove(model, coupling := couple(model), halves(coupling))
    node = next(node for node in model.graph if node.op_type == "Constant")
    assert ir.problems(model) == []
    assert list(ir.constant(node.outputs[0])) == list(kept[shift][0]) == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert run(model, {"x": np.ones((2, 6), np.float32)})[0].shape == (2, 4)


def test_a_wrong_axis_rule_would_be_noticed(new_build: Any) -> None:
    """Negative control: weights that are one channel off give another output."""
    build = new_build(7)
    inputs, outputs = plain(build)
    model = ir.from_proto(build.proto(inputs, outputs))
    feed = {"x": build.random.normal(size=inputs["x"]).astype(np.float32)}
    smaller = ir.clone(model)
    coupling = couple(smaller)
    kept = remove(smaller, coupling, halves(coupling))
    bias = next(value for value in smaller.graph.initializers.values() if value.shape == (4,))
    ir.Editor(smaller).set_constant(bias, np.roll(ir.constant(bias), 1))
    difference = np.abs(run(smaller, feed)[0] - run(zero(model, kept), feed)[0])
    assert difference.max() > 1e-2


def some_of(size: int, random: np.random.Generator) -> np.ndarray:
    """Between one unit and all but one."""
    mask = np.zeros(size, bool)
    mask[random.permutation(size)[: random.integers(1, size)]] = True
    return mask


def halves(coupling: Coupling) -> Keep:
    return {group.name: np.arange(group.size) < (group.size + 1) // 2 for group in coupling.groups}


def zero(model: ir.Model, kept: Any) -> ir.Model:
    """A copy in which what was removed of each constant is zero."""
    copy = ir.clone(model)
    edit = ir.Editor(copy)
    for name, value in copy.graph.initializers.items():
        array = ir.constant(value)
        if name not in kept or array.dtype.kind != "f":
            continue
        array = array.copy()
        for axis, positions in enumerate(kept[name]):
            if positions is not None:
                gone = np.setdiff1d(np.arange(array.shape[axis]), positions)
                array[(slice(None),) * axis + (gone,)] = 0
        edit.set_constant(value, array)
    return copy


def run(model: ir.Model, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    return list(Session(model, optimization="none").run(feed).values())
