import os
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpress.ir import apply_rules, clone, constant, load
from graphpress.passes.fusion.fold_batch_norm import FoldBatchNorm
from graphpress.runtime import Session

GENERATOR = np.random.default_rng(1)


def normal(*shape, dtype=np.float32):
    return GENERATOR.normal(size=shape).astype(dtype)


def statistics(channels, dtype=np.float32):
    """Scale, bias, mean and variance."""
    values = [normal(channels, dtype=dtype) for _ in range(3)]
    return dict(zip("gbmv", [*values, (np.abs(normal(channels)) + 0.5).astype(dtype)], strict=True))


def graph(nodes, x="1,6,7,7", dtype="float"):
    return f"({dtype}[{x}] x) => ({dtype}[] y) {{ {nodes} }}".replace("[] y", " y")


NORM = "y = BatchNormalization <epsilon = 0.001> (h, g, b, m, v)"

LAYERS = {
    "conv": (graph(f"h = Conv(x, w, c) {NORM}"), {"w": normal(4, 6, 3, 3), "c": normal(4)}, ["Conv"]),
    "without bias": (graph(f"h = Conv<pads=[1,1,1,1]>(x, w) {NORM}"), {"w": normal(4, 6, 3, 3)}, ["Conv"]),
    "grouped": (graph(f"h = Conv<group=2>(x, w) {NORM}"), {"w": normal(4, 3, 3, 3)}, ["Conv"]),
    "depthwise": (graph(f"h = Conv<group=6>(x, w) {NORM}"), {"w": normal(6, 1, 3, 3)}, ["Conv"]),
    "1d": (graph(f"h = Conv(x, w) {NORM}", x="1,6,9"), {"w": normal(4, 6, 3)}, ["Conv"]),
    "transposed": (
        graph(f"h = ConvTranspose(x, w, c) {NORM}"),
        {"w": normal(6, 4, 3, 3), "c": normal(4)},
        ["ConvTranspose"],
    ),
    "transposed grouped": (
        graph(f"h = ConvTranspose<group=3>(x, w) {NORM}"),
        {"w": normal(6, 2, 3, 3)},
        ["ConvTranspose"],
    ),
    "gemm": (
        graph(f"h = Gemm<alpha=0.5,beta=2.0>(x, w, c) {NORM}", x="5,6"),
        {"w": normal(6, 4), "c": normal(1, 4)},
        ["Gemm"],
    ),
    "gemm transposed": (graph(f"h = Gemm<transB=1>(x, w) {NORM}", x="5,6"), {"w": normal(4, 6)}, ["Gemm"]),
    "matmul": (graph(f"h = MatMul(x, w) {NORM}", x="5,6"), {"w": normal(6, 4)}, ["MatMul", "Add"]),
}


@pytest.mark.parametrize(("text", "weights", "left"), LAYERS.values(), ids=LAYERS)
def test_folds_into_the_layer_before(build, fuse, text, weights, left):
    channels = _channels(text, weights["w"])
    fused = fuse(FoldBatchNorm(), build(text, **weights, **statistics(channels)))
    assert fused.outcome.changes == 1
    assert fused.ops == left


def _channels(text, weight):
    if "ConvTranspose" in text:
        return weight.shape[1] * (3 if "group" in text else 1)
    return weight.shape[1] if "MatMul" in text or ("Gemm" in text and "transB" not in text) else weight.shape[0]


@pytest.mark.parametrize(("dtype", "rtol"), [("float16", 5e-3), ("double", 1e-12)])
def test_keeps_the_type_of_the_weights(build, fuse, dtype, rtol):
    array = np.dtype(dtype)
    text = graph(f"h = Gemm(x, w) {NORM}", x="5,6", dtype=dtype)
    fused = fuse(FoldBatchNorm(), build(text, w=normal(6, 4, dtype=array), **statistics(4, array)), rtol=rtol)
    assert fused.ops == ["Gemm"]
    assert constant(fused.model.graph.node(0).inputs[1]).dtype == array


def test_folds_bfloat16(build, refusals):
    kind = np.dtype(ml_dtypes.bfloat16)
    weight, stats = normal(4, 6, 3, 3, dtype=kind), statistics(4, kind)
    model = build(graph(f"h = Conv(x, w) {NORM}", dtype="bfloat16"), w=weight, **stats)
    assert apply_rules(model, [FoldBatchNorm()]).count == 1
    scale = stats["g"].astype(float) / np.sqrt(stats["v"].astype(float) + 0.001)
    folded = constant(model.graph.node(0).inputs[1])
    assert folded.dtype == kind
    np.testing.assert_allclose(folded.astype(float), weight.astype(float) * scale[:, None, None, None], rtol=2**-8)


@pytest.mark.parametrize(
    ("reader", "x", "weights", "ops"),
    [
        ("y = Conv(h, w)", "1,6,7,7", {"w": normal(4, 6, 3, 3)}, ["Relu", "Conv"]),
        (
            'y = Conv<group=2,auto_pad="VALID">(h, w, c)',
            "1,6,7,7",
            {"w": normal(4, 3, 3, 3), "c": normal(4)},
            ["Relu", "Conv"],
        ),
        ("y = Gemm<alpha=0.5,beta=0.25>(h, w, c)", "5,6", {"w": normal(6, 4), "c": normal(4)}, ["Relu", "Gemm"]),
    ],
)
def test_folds_into_the_layer_behind_where_nothing_is_padded(build, fuse, reader, x, weights, ops):
    nodes = f"r = Relu(x) h = BatchNormalization(r, g, b, m, v) {reader}"
    fused = fuse(FoldBatchNorm(), build(graph(nodes, x=x), **weights, **statistics(6)))
    assert fused.outcome.changes == 1
    assert fused.ops == ops


def test_without_shift_padding_does_not_matter(build, fuse):
    stats = statistics(6) | {"b": np.zeros(6, np.float32), "m": np.zeros(6, np.float32)}
    nodes = "r = Relu(x) h = BatchNormalization(r, g, b, m, v) y = Conv<pads=[1,1,1,1]>(h, w)"
    assert fuse(FoldBatchNorm(), build(graph(nodes), w=normal(4, 6, 3, 3), **stats)).ops == ["Relu", "Conv"]


REFUSALS = {
    "another reader": (graph(f"h = Conv(x, w) {NORM} z = Relu(h)").replace("float y", "float y, float z"), {}),
    "graph output": (graph(f"h = Conv(x, w) {NORM}").replace("float y", "float y, float h"), {}),
    "weight is input": (graph(f"h = Conv(x, u) {NORM}").replace("x)", "x, float[4,6,3,3] u)", 1), {}),
    "statistic is input": (
        graph("h = Conv(x, w) y = BatchNormalization(h, g, b, m, s)").replace("x)", "x, float[4] s)", 1),
        {},
    ),
    "padded": (
        graph("r = Relu(x) h = BatchNormalization(r, g, b, m, v) y = Conv<pads=[1,1,1,1]>(h, w)"),
        {"channels": 6},
    ),
    "shared weight": (
        graph(f"a = Conv(x, w) h = Conv(x, w) {NORM} z = Relu(a)").replace("float y", "float y, float z"),
        {},
    ),
    "training": (graph("h = Conv(x, w) y, rm, rv = BatchNormalization<training_mode=1>(h, g, b, m, v)"), {}),
}
WORDS = {
    "another reader": "another reader",
    "graph output": "another reader",
    "weight is input": "not constant",
    "statistic is input": "not constant",
    "padded": "its padding is zero",
    "shared weight": "the weight has another reader",
    "training": "training mode",
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refuses_and_says_why(build, refusals, case):
    text, options = REFUSALS[case]
    model = build(text, w=normal(4, 6, 3, 3), **statistics(options.get("channels", 4)))
    assert WORDS[case] in refusals(FoldBatchNorm(), model)[0]


def test_refuses_what_leaves_the_range_of_the_type(build, refusals):
    stats = {"g": 60000.0, "b": 0.0, "m": 0.0, "v": 1e-4}
    arrays = {name: np.full(4, number, np.float16) for name, number in stats.items()}
    model = build(graph(f"h = Conv(x, w) {NORM}", dtype="float16"), w=normal(4, 6, 3, 3, dtype=np.float16), **arrays)
    assert "range of float16" in refusals(FoldBatchNorm(), model)[0]


def test_leaves_a_normalization_alone_that_has_no_layer_beside_it(build, refusals):
    model = build(graph("h = Relu(x) y = BatchNormalization(h, g, b, m, v)"), **statistics(6))
    assert refusals(FoldBatchNorm(), model) == []


def test_works_in_subgraphs_and_functions(build, fuse):
    body = "h = Conv(x, w) t = BatchNormalization(h, g, b, m, v)"
    text = (
        "(float[1,6,7,7] x, bool c) => (float y) {"
        f" i = If(c) <then_branch = tg () => (float[1,4,5,5] t) {{ {body} }}, else_branch = eg () => (float[1,4,5,5] e)"
        " { k = Conv(x, u) e = Relu(k) }> y = local.norm(i) }"
    )
    function = """<opset_import: ["": 17], domain: "local"> norm (q) => (r) {
        f = Constant<value = float[1,4,1,1] {1.0, 2.0, 3.0, 4.0}>()
        one = Constant<value = float[1] {0.5}>()
        h = Conv(q, f)
        r = BatchNormalization(h, one, one, one, one) }"""
    model = build(text, functions=function, w=normal(4, 6, 3, 3), u=normal(4, 6, 3, 3), **statistics(4))
    feed = {"x": normal(1, 6, 7, 7), "c": np.array(True)}
    fused = fuse(FoldBatchNorm(), model, feed=feed)
    assert fused.outcome.changes == 2


@settings(deadline=None, max_examples=20, derandomize=True)
@given(
    groups=st.integers(1, 3),
    ins=st.integers(1, 3),
    outs=st.integers(1, 3),
    kernel=st.integers(1, 3),
    transposed=st.booleans(),
)
def test_any_grouping(build, fuse, groups, ins, outs, kernel, transposed):
    op = "ConvTranspose" if transposed else "Conv"
    shape = (groups * ins, outs) if transposed else (groups * outs, ins)
    text = graph(f"h = {op}<group={groups}>(x, w) {NORM}", x=f"2,{groups * ins},5,5")
    model = build(text, w=normal(*shape, kernel, kernel), **statistics(groups * outs))
    assert fuse(FoldBatchNorm(), model).ops == [op]


def test_mobilenet_loses_all_its_normalizations():
    folder = os.environ.get("GRAPHPRESS_DATA")
    if not folder:
        pytest.skip("GRAPHPRESS_DATA is not set")
    model = load(Path(folder) / "mobilenet_v1_0.25_224.onnx")
    after = clone(model)
    assert apply_rules(after, [FoldBatchNorm()]).count == 27
    assert "BatchNormalization" not in [node.op_type for node in after.graph]
    session = Session(model)
    (spec,) = session.inputs
    shape = [dim if isinstance(dim, int) else 1 for dim in spec.dims]
    feed = {spec.name: np.random.default_rng(0).normal(size=shape).astype(np.float32)}
    ((one,), (other,)) = session.run(feed).values(), Session(after).run(feed).values()
    np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-4)
    assert np.argmax(one) == np.argmax(other)
