import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpress.ir import ints_attribute
from graphpress.passes.fusion.fold_pad import FoldPad

WEIGHT = np.random.default_rng(3).normal(size=(4, 2, 3, 3)).astype(np.float32)
PADS = np.array([0, 0, 1, 2, 0, 0, 2, 1])
ZERO, LOWEST = np.float32(0), np.float32(-np.inf)


def graph(nodes):
    return f"(float[1,2,9,8] x) => (float y) {{ {nodes} }}"


@pytest.mark.parametrize(
    ("nodes", "pads"),
    [
        ("h = Pad(x, p) y = Conv(h, w)", (1, 2, 2, 1)),
        ("h = Pad(x, p, zero) y = Conv<pads=[1,0,0,1], strides=[2,2]>(h, w)", (2, 2, 2, 2)),
        ('h = Pad(x, p) y = Conv<auto_pad="VALID">(h, w)', (1, 2, 2, 1)),
        ('h = Pad(x, p) y = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(h, w)', (1, 3, 3, 2)),
        ('h = Pad(x, p) y = Conv<auto_pad="SAME_LOWER", strides=[2,2]>(h, w)', (2, 3, 2, 2)),
        ("h = Pad(x, p) y = AveragePool<kernel_shape=[3,3]>(h)", (1, 2, 2, 1)),
        ("h = Pad(x, p) y = AveragePool<kernel_shape=[4,4],pads=[1,1,1,1],count_include_pad=1>(h)", (2, 3, 3, 2)),
        ("h = Pad(x, p, lowest) y = MaxPool<kernel_shape=[3,3]>(h)", (1, 2, 2, 1)),
        ("r = Relu(x) h = Pad(r, p) y = MaxPool<kernel_shape=[3,3]>(h)", (1, 2, 2, 1)),
        ("r = Clip(x, zero) h = Pad(r, p) y = MaxPool<kernel_shape=[3,3]>(h)", (1, 2, 2, 1)),
    ],
)
def test_folds_and_computes_the_same(build, fuse, nodes, pads):
    fused = fuse(FoldPad(), build(graph(nodes), p=PADS, w=WEIGHT, zero=ZERO, lowest=LOWEST))
    assert fused.outcome.changes == 1
    assert "Pad" not in fused.ops
    last = list(fused.model.graph)[-1]
    assert ints_attribute(last, "pads") == pads


def test_folds_into_all_readers(build, fuse):
    nodes = "h = Pad(x, p) a = Conv(h, w) b = Conv<pads=[1,1,1,1], dilations=[2,2]>(h, w) y = Add(a, b)"
    fused = fuse(FoldPad(), build(graph(nodes), p=PADS, w=WEIGHT))
    assert fused.ops == ["Conv", "Conv", "Add"]
    assert [ints_attribute(node, "pads") for node in list(fused.model.graph)[:2]] == [(1, 2, 2, 1), (2, 3, 3, 2)]


def test_reads_axes_of_opset_18_and_attributes_of_opset_10(build, fuse):
    axes = build(graph("h = Pad(x, p, , a) y = Conv(h, w)"), opset=18, p=np.array([1, 2]), a=np.array([-1]), w=WEIGHT)
    assert fuse(FoldPad(), axes).ops == ["Conv"]
    attribute = build(graph("h = Pad<pads=[0,0,1,1,0,0,1,1]>(x) y = Conv(h, w)"), opset=10, w=WEIGHT)
    assert fuse(FoldPad(), attribute).ops == ["Conv"]


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ('h = Pad<mode="reflect">(x, p) y = Conv(h, w)', "pads by reflect"),
        ("h = Pad(x, p, one) y = Conv(h, w)", "pads with 1"),
        ("h = Pad(x, minus) y = Conv(h, w)", "crops"),
        ("h = Pad(x, channels) y = MaxPool<kernel_shape=[3,3]>(h)", "batch or channel axis"),
        ("s = Shape(x) t = Concat<axis=0>(s, s) h = Pad(x, t) y = Conv(h, w)", "not constant"),
        ("h = Pad(x, p) y = AveragePool<kernel_shape=[5,5],pads=[1,1,1,1]>(h)", "does not count its own padding"),
        ("h = Pad(x, p) y = AveragePool<kernel_shape=[3,3],ceil_mode=1>(h)", "rounds its size up"),
        ("h = Pad(x, p) y = MaxPool<kernel_shape=[3,3]>(h)", "largest value"),
        ("h = Pad(x, p, lowest) y = MaxPool<kernel_shape=[2,2]>(h)", "as large as the window"),
        ("h = Pad(x, p, lowest) y = MaxPool<kernel_shape=[3,3],dilations=[2,2]>(h)", "holes"),
        ("h = Pad(x, p, lowest) m, i = MaxPool<kernel_shape=[3,3]>(h) y = Cast<to=1>(i)", "indices"),
    ],
)
def test_refuses_and_says_why(build, refusals, nodes, reason):
    numbers = {"zero": ZERO, "lowest": LOWEST, "one": np.float32(1)}
    shapes = {"p": PADS, "minus": PADS * -1, "channels": np.array([0, 1, 0, 0, 0, 0, 0, 0])}
    assert reason in refusals(FoldPad(), build(graph(nodes), w=WEIGHT, **numbers, **shapes))[0]


@pytest.mark.parametrize("nodes", ["h = Pad(x, p) a = Conv(h, w) b = ReduceMax(h) y = Add(a, b)", "y = Pad(x, p)"])
def test_leaves_alone_what_something_that_cannot_pad_reads(build, refusals, nodes):
    assert refusals(FoldPad(), build(graph(nodes), p=PADS, w=WEIGHT)) == []


@settings(deadline=None, max_examples=25, derandomize=True)
@given(
    pads=st.lists(st.integers(0, 3), min_size=4, max_size=4),
    size=st.integers(3, 9),
    stride=st.integers(1, 3),
    rule=st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID"]),
)
def test_any_sizes(build, fuse, pads, size, stride, rule):
    nodes = f'h = Pad(x, p) y = Conv<auto_pad="{rule}", strides=[{stride},{stride}]>(h, w)'
    amounts = np.array([0, 0, *pads[:2], 0, 0, *pads[2:]])
    text = f"(float[1,2,{size + 2},{size + 2}] x) => (float y) {{ {nodes} }}"
    assert fuse(FoldPad(), build(text, p=amounts, w=WEIGHT)).ops == ["Conv"]
