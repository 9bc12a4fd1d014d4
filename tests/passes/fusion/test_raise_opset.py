import numpy as np
import onnx
import onnx.parser
import pytest
from onnx.backend.test.case.node import collect_testcases

from graphpress.ir import clone, from_proto, opset_of, to_proto, verify
from graphpress.manager.contract import Context
from graphpress.passes.fusion.fuse_rms_norm import FuseRmsNorm
from graphpress.passes.fusion.raise_opset import FUSIONS, RaiseOpset
from graphpress.runtime import Session
from graphpress.targets import Target

NORM = "p = Pow(x, two) v = ReduceMean<axes=[-1]>(p) e = Add(v, eps) s = Sqrt(e) n = Div(x, s) y = Mul(n, gamma)"
WEIGHTS = {"two": np.float32(2), "eps": np.float32(1e-5), "gamma": np.ones(8, np.float32), "six": np.float32(6)}


def target(*fused, opset_max=23):
    return Target("test", "for tests", opset_max=opset_max, fused_operators=fused)


def raise_it(model, where=None, to=0):
    return RaiseOpset(to).run(model, Context(target=where or target(), original=model))


def text(nodes, shape="2,4,8"):
    return f"(float[{shape}] x) => (float[{shape}] y) {{ {nodes} }}"


def test_raises_as_far_as_the_paying_fusion_needs(build, fuse):
    model = build(text(NORM), opset=13, ir_version=7, **WEIGHTS)
    before = Session(clone(model))
    outcome = raise_it(model, target("RMSNormalization", "Gelu"))
    assert outcome.notes == ["operator set 13 raised to 23"]
    assert model.graph.opset_imports[""] == 23
    assert model.ir_version == 11
    onnx.checker.check_model(to_proto(model), full_check=True)
    feed = {"x": np.random.default_rng(0).normal(size=(2, 4, 8)).astype(np.float32)}
    np.testing.assert_allclose(Session(model).run(feed)["y"], before.run(feed)["y"], rtol=1e-5)
    assert raise_it(model, target("RMSNormalization")).changes == 0
    assert fuse(FuseRmsNorm(), model).ops == ["RMSNormalization"]


@pytest.mark.parametrize(
    "where",
    [target("Gelu"), target("RMSNormalization", opset_max=20), target()],
    ids=["absent", "too new", "nothing pays"],
)
def test_leaves_the_model_alone_where_nothing_is_gained(build, where):
    model = build(text(NORM), opset=13, **WEIGHTS)
    assert raise_it(model, where).changes == 0
    assert opset_of(model.graph.node(0)) == 13


def test_keeps_tensors_and_metadata(build):
    model = build(text(NORM), opset=13, **WEIGHTS)
    model.graph.node(0).metadata_props["note"] = "kept"
    gamma = model.graph.initializers["gamma"].const_value
    raise_it(model, to=20)
    assert model.graph.initializers["gamma"].const_value is gamma
    assert model.graph.node(0).metadata_props["note"] == "kept"


VARIANTS = [
    ("y = Clip<min=0.0, max=6.0>(x)", 6),
    ("y = Pad<pads=[0,0,1,0,0,1], value=2.0>(x)", 2),
    ("s = ReduceSum<axes=[1], keepdims=0>(x) y = Unsqueeze<axes=[1]>(s)", 11),
    ("a, b = Split<axis=1, split=[1,3]>(x) y = Concat<axis=1>(b, a)", 11),
    ("a, b = Split<axis=1>(x) y = Add(a, b)", 13),
    ("y = Slice<starts=[1], ends=[3], axes=[1]>(x)", 9),
    ("v, i = TopK<k=2>(x) y = Identity(v)", 9),
    ("y = Softmax<axis=2>(x)", 11),
    ("y = Dropout<ratio=0.3>(x)", 10),
    ("m = ReduceMax<axes=[0,2]>(x) l = ReduceL2<axes=[0]>(m) y = Squeeze<axes=[2]>(l)", 11),
]


@pytest.mark.parametrize(("nodes", "opset"), VARIANTS)
def test_expresses_operators_the_newer_way(build, nodes, opset):
    model = build(f"(float[2,4,8] x) => (float y) {{ {nodes} }}", opset=opset, ir_version=8)
    raised = clone(model)
    assert raise_it(raised, to=23).refusals == []
    verify(raised)
    onnx.checker.check_model(to_proto(raised))
    feed = {"x": np.random.default_rng(0).normal(size=(2, 4, 8)).astype(np.float32)}
    np.testing.assert_array_equal(Session(raised).run(feed)["y"], Session(model).run(feed)["y"])


IMAGE = "2,4,6,8"
RESTATED = [
    ("y = Softmax<axis=1>(x)", 11, "2,4,8"),
    ("y = LogSoftmax<axis=0>(x)", 11, "2,4,8"),
    ("y = Hardmax<axis=1>(x)", 11, "2,4,8"),
    ("y = Softmax(x)", 9, "2,5,1,1"),
    ("y = Softmax(x)", 9, "2,1,1,5"),
    ("y = Softmax<axis=-2>(x)", 11, "2,3,4,1"),
    ("y = Softmax<axis=2>(x) z = Softmax(x)", 12, "N,3,4,1"),
    ("h = Softmax(x) y = Add(h, x)", 12, "N,M,4"),
    ("y = Upsample<scales=[1.0,1.0,2.0,3.0]>(x)", 8, IMAGE),
    ('y = Upsample<mode="linear", scales=[1.0,1.0,2.0,2.0]>(x)', 7, IMAGE),
    ('y = Upsample<mode="linear">(x, larger)', 9, IMAGE),
    ("y = Upsample(x, larger)", 9, IMAGE),
    ("y = Resize(x, larger)", 10, IMAGE),
    ('y = Resize<mode="linear">(x, smaller)', 10, IMAGE),
    ("y = Scatter<axis=1>(x, indices, x)", 9, "2,3"),
    ("y = Erf(x)", 9, "2,3"),
    ("d, mask = Dropout(x) y = Relu(d)", 9, "2,3"),
    ("y = GroupNormalization<num_groups=2>(x, group, group)", 18, IMAGE),
    ('y = GridSample<mode="bilinear">(x, grid)', 16, IMAGE),
    ('y = GridSample<mode="bicubic">(x, grid)', 16, IMAGE),
    ("y = RoiAlign<output_height=2, output_width=2>(x, boxes, images)", 10, IMAGE),
]
RANDOM = np.random.default_rng(1)
OPERANDS = {
    "larger": np.array([1, 1, 2, 2], np.float32), "smaller": np.array([1, 1, 0.5, 0.5], np.float32),
    "indices": np.array([[0, 2, 1], [1, 0, 2]]), "group": np.array([0.5, 2], np.float32),
    "grid": RANDOM.uniform(-1, 1, (2, 3, 3, 2)).astype(np.float32), "images": np.array([0, 1]),
    "boxes": np.array([[0, 0, 5, 5], [1, 1, 6, 4]], np.float32),
}  # fmt: skip


@pytest.mark.parametrize(("nodes", "opset", "shape"), RESTATED)
def test_says_the_same_in_another_way_where_the_old_one_is_gone(build, nodes, opset, shape):
    open_dims = ",".join("?" * len(shape.split(",")))
    operands = {name: array for name, array in OPERANDS.items() if name in nodes}
    model = build(f"(float[{shape}] x) => (float[{open_dims}] y) {{ {nodes} }}", opset=opset, ir_version=8, **operands)
    raised = clone(model)
    assert raise_it(raised, to=max(opset + 2, 21 if "Group" in nodes or "Grid" in nodes else 17)).refusals == []
    verify(raised)
    onnx.checker.check_model(to_proto(raised), full_check=True)
    sizes = [int(size) if size.isdigit() else 3 for size in shape.split(",")]
    feed = {"x": RANDOM.normal(size=sizes).astype(np.float32)}
    expected, result = (Session(each, optimization="none").run(feed)["y"] for each in (model, raised))
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


def test_one_long_axis_needs_no_flattening(build):
    model = build("(float[N,5,1,1] x) => (float[N,5,1,1] y) { y = Softmax(x) }", opset=9, ir_version=8)
    raise_it(model, to=13)
    (node,) = model.graph
    assert node.attributes["axis"].as_int() == 1


@pytest.mark.parametrize(
    ("nodes", "opset", "reason"),
    [
        ("y = Upsample<width_scale=2.0, height_scale=2.0>(x)", 6, "lost its attribute height_scale"),
        ("y = Resize(x, half)", 10, "Resize rounds positions otherwise in operator set 11"),
        ("y = Resize(x, x)", 10, "Resize rounds positions otherwise in operator set 11"),
        ("m, n = Dropout(x) y = Add(m, n)", 8, "changed its output mask"),
        ("y = PRelu(x, slope)", 6, "PRelu changed its meaning in operator set 7"),
        ("y = Dropout(x)", 6, "Dropout changed its meaning in operator set 7"),
        (
            "s = Relu(g) y = GroupNormalization<num_groups=2>(x, s, g)",
            18,
            "a scale for each channel instead of each group",
        ),
    ],
)
def test_refuses_what_would_mean_something_else(build, nodes, opset, reason):
    weights = {"half": np.array([1, 1, 0.5], np.float32), "g": np.ones(2, np.float32), "slope": np.ones(4, np.float32)}
    model = build(
        f"(float[2,4,8] x) => (float y) {{ r = Relu(x) {nodes.replace('(x', '(r')} }}", opset=opset, **weights
    )
    outcome = raise_it(model, to=23)
    assert outcome.changes == 0
    assert reason in outcome.refusals[0].why
    assert opset_of(model.graph.node(0)) == opset


def test_refuses_what_the_target_cannot_read(build):
    model = build(text("y = Relu(x)"))
    refusal = RaiseOpset(to=22).refuse(model, Context(target=target(opset_max=20), original=model))
    assert refusal is not None
    assert "up to 20" in refusal.why


def test_raises_subgraphs_and_functions_too(build):
    graph = (
        "(float[2,4] x, bool c) => (float y) {"
        " i = If(c) <then_branch = tg () => (float t) { t = ReduceSum<axes=[1]>(x) },"
        " else_branch = eg () => (float e) { e = ReduceMean<axes=[1]>(x) }> y = local.f(i) }"
    )
    function = '<opset_import: ["": 12], domain: "local"> f (q) => (r) { r = Squeeze<axes=[1]>(q) }'
    model = build(graph, opset=12, ir_version=8, functions=function)
    raised = clone(model)
    raise_it(raised, to=20)
    verify(raised)
    for choice in (True, False):
        feed = {"x": np.ones((2, 4), np.float32), "c": np.array(choice)}
        np.testing.assert_array_equal(Session(raised).run(feed)["y"], Session(model).run(feed)["y"])


def test_every_fusion_that_a_target_can_choose_is_known():
    assert all(rule.emits for rule in FUSIONS)
    assert len({rule.emits for rule in FUSIONS}) == len(FUSIONS)


@pytest.mark.filterwarnings("ignore")
def test_operators_of_the_standard_carry_over_from_13():
    """All node cases whose operator exists in 13 are raised to 23 or refused; the checker accepts every result."""
    raised = 0
    for case in collect_testcases(None):
        proto = onnx.ModelProto()
        proto.CopyFrom(case.model)
        version = next((entry.version for entry in proto.opset_import if not entry.domain), 0)
        if not 13 <= version < 20 or len(proto.graph.node) != 1:
            continue
        model = from_proto(proto)
        if raise_it(model, to=23).changes:
            onnx.checker.check_model(to_proto(model))
            raised += 1
    assert raised > 50
