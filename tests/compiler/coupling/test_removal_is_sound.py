"""The analysis itself: zeroing, in the original, every weight slice that belongs to removed positions gives the same
output as removing those positions.

Removal here is the plainest that serves: slice every constant by its atoms, and rewrite the attributes and shape
constants that count positions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from graphpress import ir
from graphpress.analysis.channels import Channels, propagate

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


def depth_to_space(b: Any) -> Any:
    up = b("DepthToSpace", b.conv("x", 3, 12), blocksize=2)
    down = b("SpaceToDepth", b.conv(up, 3, 5), blocksize=2)
    return IMAGE, [b.conv(down, 20, 4)]


def perceptron(b: Any) -> Any:
    hidden = b("Gelu", b("Add", b("MatMul", "x", b.weight(6, 10)), b.weight(10)))
    return {"x": (2, 5, 6)}, [b("MatMul", hidden, b.weight(10, 6))]


def heads(b: Any) -> Any:
    """Three heads of width four, spelt with Reshape and Transpose; queries and keys without bias."""

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
    query, key = (b("RotaryEmbedding", one, cosine, sine, num_heads=3) for one in (query, key))
    mixed = b("Attention", query, key, value, q_num_heads=3, kv_num_heads=3, scale=0.5)
    return {"x": (2, 5, 6)}, [b("MatMul", mixed, b.weight(12, 6))]


def einsum(b: Any) -> Any:
    hidden = b("Einsum", "x", b.weight(6, 10), equation="bsi,ih->bsh")
    return {"x": (2, 5, 6)}, [b("Einsum", hidden, b.weight(4, 10), equation="...h,oh->...o")]


GRAPHS: list[Graph] = [
    plain, residual, concat_then_split, sliced, depthwise, depthwise_multiplied, grouped, shuffled, flattened, normed,
    group_normed, squeeze_excite, transposed_conv, padded_shortcut, depth_to_space, perceptron, heads, attention,
    rotary, einsum,
]  # fmt: skip


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph.__name__)
def test_zeroing_equals_removing(graph: Graph, new_build: Any) -> None:
    build = new_build(7)
    inputs, outputs = graph(build)
    proto = build.proto(inputs, outputs)
    model = ir.from_proto(proto)
    channels = propagate(model)
    assert channels.notes == []
    feed = {name: build.random.normal(size=shape).astype(np.float32) for name, shape in inputs.items()}
    removed = 0
    for prefer_outer in (True, False):
        for seed in free_roots(channels, model):
            gone = closure(channels, seed, prefer_outer)
            if gone is None:
                continue
            removed += 1
            zeroed = run(changed(proto, model, channels, gone, remove=False), feed)
            smaller = run(changed(proto, model, channels, gone, remove=True), feed)
            for one, other in zip(zeroed, smaller, strict=True):
                np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-4)
    assert removed, "nothing could be removed"


def test_a_wrong_axis_rule_would_be_noticed(new_build: Any) -> None:
    """Negative control: weights that are one channel off give another output."""
    build = new_build(7)
    inputs, outputs = plain(build)
    proto = build.proto(inputs, outputs)
    model = ir.from_proto(proto)
    channels = propagate(model)
    feed = {"x": build.random.normal(size=inputs["x"]).astype(np.float32)}
    gone = closure(channels, free_roots(channels, model)[0], True)
    assert gone is not None
    smaller = changed(proto, model, channels, gone, remove=True)
    bias = smaller.graph.initializer[1]
    bias.CopyFrom(numpy_helper.from_array(np.roll(numpy_helper.to_array(bias), 1), bias.name))
    difference = np.abs(run(smaller, feed)[0] - run(changed(proto, model, channels, gone, remove=False), feed)[0])
    assert difference.max() > 1e-2


# -- choosing -------------------------------------------------------------------------------------------------


def free_roots(channels: Channels, model: ir.Model) -> list[int]:
    axes = [axis for value in model.graph.initializers.values() for axis in channels.axes.get(value, ())]
    roots = np.unique(np.concatenate([channels.atoms.resolve(axis) for axis in axes]))
    return [int(root) for root in roots if root]


def closure(channels: Channels, seed: int, prefer_outer: bool) -> set[int] | None:
    """Components that go with this one through product constraints; None if something frozen or a whole axis would."""
    resolve = channels.atoms.resolve
    gone, before = {seed}, 0
    while len(gone) != before:
        before = len(gone)
        for product in channels.atoms.products:
            outer, inner = resolve(product.outer), resolve(product.inner)
            table = resolve(product.flat).reshape(len(outer), len(inner))
            lost = np.isin(outer, list(gone))[:, None] | np.isin(inner, list(gone))[None]
            gone |= {int(root) for root in table[lost]}
            for i, j in np.argwhere(np.isin(table, list(gone)) & ~lost):
                gone.add(int(outer[i]) if (prefer_outer and outer[i]) or not inner[j] else int(inner[j]))
    whole = any(np.isin(resolve(axis), list(gone)).all() for axes in channels.axes.values() for axis in axes)
    return None if 0 in gone or whole else gone


# -- removing -------------------------------------------------------------------------------------------------


def changed(
    proto: onnx.ModelProto, model: ir.Model, channels: Channels, gone: set[int], *, remove: bool
) -> onnx.ModelProto:
    result = onnx.ModelProto()
    result.CopyFrom(proto)

    def kept(axis: np.ndarray) -> np.ndarray:
        return ~np.isin(channels.atoms.resolve(axis), list(gone))

    for tensor in result.graph.initializer:
        axes = channels.axes.get(model.graph.initializers[tensor.name], ())
        array = numpy_helper.to_array(tensor).copy()
        for index, axis in enumerate(axes):
            if remove:
                array = np.compress(kept(axis), array, axis=index)
            else:
                array[(slice(None),) * index + (~kept(axis),)] = 0
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    if remove:
        constants = {tensor.name: tensor for tensor in result.graph.initializer}
        for before, after in zip(model.graph, result.graph.node, strict=True):
            axes_of = [channels.axes.get(value) for value in before.inputs if value is not None]
            rewrite(before, after, constants, axes_of, [channels.axes[value] for value in before.outputs], kept)
    return result


def rewrite(before: ir.Node, after: Any, constants: Any, read: Any, written: Any, kept: Any) -> None:
    attributes = {attribute.name: attribute for attribute in after.attribute}

    def set_constant(name: str, numbers: Any) -> None:
        fresh = numpy_helper.from_array(np.asarray(numbers, np.int64), name)
        constants[name].CopyFrom(fresh)

    sizes = [[int(kept(axis).sum()) for axis in axes] for axes in written]
    if before.op_type == "Reshape":
        set_constant(after.input[1], sizes[0])
    elif before.op_type == "Split":
        set_constant(after.input[1], [size[1] for size in sizes])
    elif before.op_type == "Pad":
        grown = kept(written[0][1])
        set_constant(after.input[1], [0, grown[:2].sum(), 0, 0, 0, grown[-2:].sum(), 0, 0])
    elif before.op_type in ("Gather", "Slice"):
        data, taken = read[0][1], written[0][1]
        ranks = np.cumsum(kept(data)) - 1
        places = [int(np.flatnonzero(data == atom)[0]) for atom in taken[kept(taken)]]
        after.op_type = "Gather"
        if before.op_type == "Slice":
            del after.input[2:]
            after.attribute.append(onnx.helper.make_attribute("axis", 1))
        set_constant(after.input[1], ranks[places])
    elif before.op_type in ("Conv", "ConvTranspose") and attributes["group"].i > 1 if "group" in attributes else False:
        per_group = read[1][1] if before.op_type == "Conv" else read[1][0][: len(read[1][0]) // attributes["group"].i]
        inputs = kept(read[0][1]).reshape(attributes["group"].i, len(per_group))
        attributes["group"].i = int(inputs.any(axis=1).sum())
    elif before.op_type == "GroupNormalization":
        table = kept(read[0][1]).reshape(attributes["num_groups"].i, -1)
        attributes["num_groups"].i = int(table.any(axis=1).sum())
    elif before.op_type in ("Attention", "RotaryEmbedding"):
        for name, index in (("q_num_heads", 0), ("kv_num_heads", 1), ("num_heads", 0)):
            if name not in attributes:
                continue
            table = kept(read[index][2]).reshape(attributes[name].i, -1)
            attributes[name].i = int(table.any(axis=1).sum())


def run(proto: onnx.ModelProto, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feed))
