"""Operators, operator sets and their limits: what a release does not read is named before any work is done."""

from itertools import pairwise

import numpy as np
import pytest
from onnx import TensorProto as T
from onnx import defs, helper

from graphpress.backends.tensorrt.lint import lint, unsupported
from graphpress.backends.tensorrt.lint.device import Device, knowledge, version
from graphpress.ir import from_proto
from graphpress.ops import table
from graphpress.targets import load_target

I64 = T.INT64


def single(net, op_type, *inputs, shape=(4, 64), opset=19, dtype=T.FLOAT16, domain="", outputs=1, **attributes):
    made = net(shape, opset=opset, dtype=dtype, domains=(domain,) if domain else ())
    if domain:
        attributes["domain"] = domain
    operands = ["x", *(give(made) for give in inputs)]
    if defs.has(op_type, opset, domain):  # a node of fewer inputs or outputs than it needs is no model
        schema = defs.get_schema(op_type, opset, domain)
        operands += ["x"] * (schema.min_input - len(operands))
        outputs = max(outputs, schema.min_output)
    result = made.node(op_type, *operands, name="n", outputs=outputs, **attributes)
    for value in result if outputs > 1 else [result]:
        made.output(value)
    return made


def constant(value, dtype=T.FLOAT16):
    return lambda made: made.constant(value, dtype)


def absent(made):
    return ""


def given(name, shape, dtype=T.FLOAT16):
    return lambda made: made.input(name, shape, dtype)


# -- operators ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "op_type", "opset", "fix"),
    [
        ("jetson{jetpack=5.1}", "LayerNormalization", 17, "operator set 16, which decomposes it, or choose a device"),
        ("jetson-xavier", "IsInf", 16, "TensorRT 8.6 or newer"),
        ("jetson{jetpack=6.0}", "Hardmax", 13, "TensorRT 9.2 or newer"),
        ("jetson{jetpack=6.0}", "Gelu", 20, "operator set 19"),
        ("jetson", "Mish", 18, "operator set 17, which decomposes it, or choose a device with TensorRT 10.6"),
        ("jetson-thor", "Swish", 24, "operator set 23"),
        ("dgpu{tensorrt=10.9}", "Attention", 23, "TensorRT 10.14 or newer"),
        ("jetson", "Det", 11, "surgery"),
        ("rtx", "NonZero", 13, "choose the target dgpu"),
        ("jetson", "DynamicQuantizeLinear", 11, "start from the float model"),
        ("jetson", "ConvInteger", 10, "start from the float model"),
        ("jetson", "QLinearMatMul", 10, "start from the float model"),
    ],
)
def test_an_unknown_operator_comes_with_what_helps(net, target, op_type, opset, fix):
    refusals = unsupported(single(net, op_type, opset=opset).model, load_target(target))
    assert refusals[-1].where == "n"
    assert f"does not know {op_type}" in refusals[-1].why
    assert fix in refusals[-1].fix


@pytest.mark.parametrize(
    ("target", "op_type", "opset"),
    [
        ("jetson{jetpack=6.0}", "LayerNormalization", 17),
        ("jetson", "Gelu", 20),
        ("jetson", "NonMaxSuppression", 11),
        ("jetson{jetpack=7.2}", "RMSNormalization", 23),
        ("rtx", "Swish", 24),
    ],
)
def test_a_known_operator_is_fine(net, target, op_type, opset):
    assert unsupported(single(net, op_type, opset=opset).model, load_target(target)) == []


@pytest.mark.parametrize(
    ("target", "op_type", "fine"),
    [
        ("rtx", "Gelu", True),
        ("jetson", "Gelu", True),
        ("jetson{jetpack=5.1}", "Gelu", False),
        ("rtx", "SkipSimplifiedLayerNormalization", True),
        ("jetson", "SkipSimplifiedLayerNormalization", False),
        ("rtx", "FastGelu", False),
    ],
)
def test_operators_of_onnx_runtime(net, target, op_type, fine):
    made = single(net, op_type, opset=17, domain="com.microsoft")
    assert (unsupported(made.model, load_target(target)) == []) is fine


@pytest.mark.parametrize("domain", ["", "acme"])
def test_an_operator_that_nobody_defines_is_meant_for_a_plugin(net, domain):
    made = single(net, "Whirl", domain=domain)
    assert unsupported(made.model, load_target("jetson")) == []
    (strange,) = unsupported(made.model, load_target("rtx"))
    assert "does not know" in strange.why
    assert "plugin_version" in strange.fix


def test_an_operator_that_somebody_else_defines_is_none(net):
    (trees,) = unsupported(single(net, "TreeEnsembleRegressor", domain="ai.onnx.ml").model, load_target("jetson"))
    assert "does not know" in trees.why
    (namesake,) = unsupported(single(net, "Relu", domain="acme").model, load_target("jetson"))
    assert "it looks at no domain" in namesake.why


@pytest.mark.parametrize("attributes", [{"plugin_version": "1"}, {"plugin_namespace": "acme"}])
def test_a_node_that_asks_for_a_plugin_is_left_alone(net, attributes):
    assert unsupported(single(net, "Whirl", domain="acme", **attributes).model, load_target("jetson")) == []


@pytest.mark.parametrize(("target", "fine"), [("jetson", True), ("rtx", False)])
def test_plugins_of_nvidias_library(net, target, fine):
    assert (unsupported(single(net, "EfficientNMS_TRT").model, load_target(target)) == []) is fine


@pytest.mark.parametrize(("target", "fine"), [("jetson", True), ("jetson{jetpack=6.0}", False)])
def test_functions_came_with_tensorrt_9(net, target, fine):
    made = single(net, "Twice", opset=17, domain="acme")
    proto = made.proto
    body = [helper.make_node("Add", ["a", "a"], ["b"])]
    proto.functions.append(helper.make_function("acme", "Twice", ["a"], ["b"], body, [helper.make_opsetid("", 17)]))
    refusals = unsupported(from_proto(proto), load_target(target))
    assert [item.fix for item in refusals] == ([] if fine else ["inline them (onnx.inliner) before"])


def test_nodes_of_subgraphs_count(net):
    made = net((4, 64))
    made.input("condition", (), T.BOOL)
    branches = [
        helper.make_graph(
            [helper.make_node(op_type, ["x"], [op_type], name=op_type)],
            op_type,
            [],
            [helper.make_tensor_value_info(op_type, T.FLOAT16, None)],
        )
        for op_type in ("Det", "Neg")
    ]
    made.output(made.node("If", "condition", then_branch=branches[0], else_branch=branches[1]))
    assert [item.where for item in unsupported(made.model, load_target("jetson"))] == ["Det"]


def test_what_folds_away_does_not_count_before_work(net, fatal):
    made = net((4, 64))
    ones = made.node("NonZero", made.constant(np.ones(4)), name="folds")
    made.output(made.node("Gather", "x", made.node("Squeeze", ones, made.constant([0], I64)), axis=0))
    assert unsupported(made.model, load_target("rtx")) == []
    assert [item.where for item in fatal(made.model, load_target("rtx"))] == ["folds"]


def test_shapes_that_are_known_fold_away(net):
    made = net((4, 64))
    made.output(made.node("BitShift", made.node("Shape", "x"), made.constant([1, 1], I64), direction="LEFT"), I64)
    assert unsupported(made.model, load_target("jetson")) == []
    made.inputs[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    assert [item.where for item in unsupported(made.model, load_target("jetson"))] == ["BitShift_1"]


@pytest.mark.parametrize(
    ("target", "opset", "limit"),
    [("jetson{jetpack=5.1}", 18, 17), ("jetson", 22, 21), ("jetson-thor", 25, 24), ("jetson{jetpack=7.2}", 25, None)],
)
def test_an_operator_set_that_is_too_new(net, target, opset, limit):
    model = single(net, "Relu", opset=opset).model
    refusals = unsupported(model, load_target(target))
    assert [f"reads up to {limit}" in item.why for item in refusals] == ([] if limit is None else [True])
    assert lint(model, load_target(target)) == refusals


# -- limits ---------------------------------------------------------------------------------------------------

IMAGE = (1, 32, 16, 16)
SCALES = constant([1, 1, 2, 2], T.FLOAT)

LIMITS = {
    "indices of pooling": lambda net: single(net, "MaxPool", shape=IMAGE, outputs=2, kernel_shape=[2, 2]),
    "dilated pooling": lambda net: single(net, "AveragePool", shape=IMAGE, kernel_shape=[2, 2], dilations=[2, 2]),
    "statistics of a norm": lambda net: single(
        net, "LayerNormalization", constant(np.ones(64)), constant(np.zeros(64)), outputs=3
    ),
    "antialias": lambda net: single(net, "Resize", absent, SCALES, shape=IMAGE, mode="linear", antialias=1),
    "aspect ratio": lambda net: single(
        net,
        "Resize",
        absent,
        absent,
        constant([32, 32], I64),
        shape=IMAGE,
        mode="linear",
        axes=[2, 3],
        keep_aspect_ratio_policy="not_larger",
    ),
    "crop while resizing": lambda net: single(
        net,
        "Resize",
        constant([0, 0, 0, 0, 1, 1, 1, 1], T.FLOAT),
        SCALES,
        shape=IMAGE,
        mode="linear",
        coordinate_transformation_mode="tf_crop_and_resize",
    ),
    "scattered sums": lambda net: single(
        net, "ScatterND", constant([[0], [1]], I64), given("updates", (2, 64)), reduction="add"
    ),
    "scattered sums of elements": lambda net: single(
        net, "ScatterElements", constant(np.zeros((2, 64)), I64), given("updates", (2, 64)), reduction="add"
    ),
    "dropout while training": lambda net: single(net, "Dropout", absent, constant(True, T.BOOL)),
    "norm while training": lambda net: single(
        net,
        "BatchNormalization",
        *[constant(np.ones(32))] * 4,
        shape=IMAGE,
        training_mode=1,
        outputs=3,
    ),
    "lengths of sequences in half precision": lambda net: recurrent(net, T.FLOAT16),
    "too many of the largest": lambda net: largest(net, 4000),
    "axes at run time": lambda net: single(net, "ReduceSum", given("axes", (1,), I64)),
    "capped attention": lambda net: single(
        net,
        "Attention",
        given("k", (1, 4, 16)),
        given("v", (1, 4, 16)),
        shape=(1, 4, 16),
        opset=23,
        q_num_heads=2,
        kv_num_heads=2,
        softcap=2.0,
    ),
}


def recurrent(net, dtype):
    made = net((5, 1, 8), dtype=dtype)
    weights = made.constant(np.ones((1, 32, 8))), made.constant(np.ones((1, 32, 8)))
    lengths = made.constant([5], T.INT32)
    return made.output(made.node("LSTM", "x", *weights, "", lengths, hidden_size=8, name="n"))


def largest(net, count):
    made = net((1, 8000))
    values, indices = made.node("TopK", "x", made.constant([count], I64), name="n", outputs=2)
    return made.output(values).output(indices, I64)


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_of_an_operator_is_named(net, name):
    refusals = unsupported(LIMITS[name](net).model, load_target("rtx"))
    assert {item.where for item in refusals} == {"n"}
    assert all(item.fix for item in refusals)


@pytest.mark.parametrize("name", LIMITS)
def test_tensorrt_agrees_on_limits(net, verdict, name):
    assert not verdict(LIMITS[name](net)).built


def test_within_the_limits_all_is_fine(net, verdict):
    for made in (
        single(net, "MaxPool", shape=IMAGE, kernel_shape=[2, 2]),
        single(net, "Resize", absent, SCALES, shape=IMAGE, mode="linear"),
        largest(net, 3000),
        recurrent(net, T.FLOAT),
    ):
        assert unsupported(made.model, load_target("rtx")) == []
        assert verdict(made).built


@pytest.mark.parametrize(
    ("target", "fine"), [("jetson{jetpack=6.0}", False), ("jetson", False), ("jetson-thor", True), ("rtx", True)]
)
def test_a_limit_that_a_release_lifted(net, target, fine):
    made = single(net, "Einsum", given("y", (2, 8, 4)), shape=(2, 4, 8), opset=17, equation="...ij,...jk->...ik")
    refusals = unsupported(made.model, load_target(target))
    if target == "jetson-thor":
        assert version(load_target(target).settings["tensorrt"]) >= version("10.12")
    assert (refusals == []) is fine


@pytest.mark.parametrize(("target", "fine"), [("jetson", False), ("rtx", True)])
def test_a_limit_of_one_product(net, target, fine):
    made = single(net, "GridSample", given("grid", (1, 4, 4, 4, 3)), shape=(1, 2, 4, 4, 4), opset=20, mode="linear")
    assert (unsupported(made.model, load_target(target)) == []) is fine


def repeat(net, *, fixed, stacked):
    """Add x to itself, round after round; ``stacked`` keeps each sum."""
    made = net((4, 64))
    sums = [helper.make_tensor_value_info(name, T.FLOAT16, None) for name in ("sum", "copy")]
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["state", "state"], ["sum"])]
        + [helper.make_node("Identity", ["sum"], ["copy"])] * stacked,
        "body",
        [
            helper.make_tensor_value_info("round", I64, []),
            helper.make_tensor_value_info("go", T.BOOL, []),
            helper.make_tensor_value_info("state", T.FLOAT16, [4, 64]),
        ],
        [helper.make_tensor_value_info("on", T.BOOL, []), *sums[: 1 + stacked]],
    )
    rounds = made.constant(3, I64) if fixed else made.input("rounds", (), I64)
    results = made.node("Loop", rounds, "", "x", name="n", outputs=1 + stacked, body=body)
    for value in results if stacked else [results]:
        made.output(value)
    return made


@pytest.mark.parametrize(
    ("target", "fixed", "stacked", "fine"),
    [
        ("jetson", False, True, False),
        ("jetson", True, True, True),
        ("jetson", False, False, True),
        ("rtx", False, True, True),
    ],
)
def test_loops_stack_a_known_number_of_results(net, target, fixed, stacked, fine):
    refusals = unsupported(repeat(net, fixed=fixed, stacked=stacked).model, load_target(target))
    assert [item.where for item in refusals] == ([] if fine else ["n"])


# -- the data file --------------------------------------------------------------------------------------------


def test_every_operator_of_the_data_is_one_of_the_standard():
    standard = {schema.name for schema in defs.get_all_schemas_with_history() if schema.domain == ""}
    since = knowledge().since
    assert sum(map(len, knowledge().first_release.values())) == len(since)
    assert set(since) <= standard
    assert {operator for limit in knowledge().limit for operator in limit.operators} <= set(since)


def test_no_release_forgets_an_operator():
    chosen = ["5.1", "6.0", "6.1", "7.2"]
    known = [Device.of(load_target(f"jetson{{jetpack={version}}}")).operators for version in chosen]
    assert all(older <= newer for older, newer in pairwise(known))
    assert len(known[0]) > 120


def test_the_data_is_what_the_parser_of_rtx_says():
    trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    logger = trt.Logger(trt.Logger.ERROR)
    network = trt.Builder(logger).create_network(0)
    parser = trt.OnnxParser(network, logger)
    ours = Device.of(load_target("rtx")).operators
    names = set(table())
    built_by_plugins = {"NonMaxSuppression", "NonZero"}
    assert {name for name in names if parser.supports_operator(name)} - built_by_plugins == names & ours


def test_operators_that_rtx_knows_and_cannot_build(net, verdict):
    boxes = net((1, 100, 4), dtype=T.FLOAT)
    scores, most = boxes.input("scores", (1, 3, 100)), boxes.constant([10], I64)
    bounds = [boxes.constant([bound], T.FLOAT) for bound in (0.5, 0.1)]
    boxes.output(boxes.node("NonMaxSuppression", "x", scores, most, *bounds, name="n"), I64)
    for made in (boxes, single(net, "NonZero")):
        assert [item.where for item in unsupported(made.model, load_target("rtx"))] == ["n"]
        assert not verdict(made).built
