"""Models with operators that nothing here has, at the end, in the middle, in front, in a branch, in a function: cleaned
up, quantized as far as the data reaches, and what was not verified is said.
"""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.helper import make_node

import graphpress
from graphpress.cli.summary import summary
from graphpress.errors import ModelError, UsageError
from graphpress.ir import Model, Tensor, from_proto, graphs, load, save

RANDOM = np.random.default_rng(8)
CHANNELS, SIDE = 8, 6
IMAGE, PLANE = ["N", 3, SIDE, SIDE], ["N", CHANNELS, SIDE, SIDE]
OWN = "acme.ops"


def info(name, dims, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, dims)


def weight(name, *dims):
    array = RANDOM.normal(size=dims) / np.sqrt(np.prod(dims[1:]))
    return numpy_helper.from_array(array.astype(np.float32), name)


def backbone():
    """Two convolutions from ``x`` to ``r1``, with a node between them that the clean-up drops, and their weights."""
    nodes = [
        make_node("Conv", ["x", "w0"], ["c0"], "conv0", pads=[1] * 4),
        make_node("Relu", ["c0"], ["r0"], "relu0"),
        make_node("Identity", ["r0"], ["i0"], "useless"),
        make_node("Conv", ["i0", "w1"], ["c1"], "conv1", pads=[1] * 4),
        make_node("Relu", ["c1"], ["r1"], "relu1"),
    ]
    return nodes, [weight("w0", CHANNELS, 3, 3, 3), weight("w1", CHANNELS, CHANNELS, 3, 3)]


def head(source="z"):
    """From ``source`` to ``y``, with a node that the clean-up drops."""
    nodes = [
        make_node("Identity", [source], ["i1"], "useless_too"),
        make_node("Conv", ["i1", "w2"], ["c2"], "conv2", pads=[1] * 4),
        make_node("GlobalAveragePool", ["c2"], ["p"], "pool"),
        make_node("Flatten", ["p"], ["y"], "flatten"),
    ]
    return nodes, [weight("w2", CHANNELS, CHANNELS, 3, 3)]


def model(nodes, outputs, weights, *, inputs=None, values=(), domains=(), functions=(), opset=17) -> Model:
    graph = helper.make_graph(
        nodes, "net", inputs or [info("x", IMAGE)], list(outputs), weights, value_info=list(values)
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return from_proto(
        helper.make_model(graph, opset_imports=imports, ir_version=8, functions=list(functions)),
    )


def in_the_middle(domain=OWN, op_type="Swoosh", *, declared=True, opset=17):
    nodes, weights = backbone()
    behind, more = head()
    nodes = [*nodes, make_node(op_type, ["r1"], ["z"], "swoosh", domain=domain), *behind]
    values = [info("z", PLANE)] if declared else []
    domains = [domain] if domain else []
    outputs = [info("y", ["N", CHANNELS])]
    return model(nodes, outputs, [*weights, *more], values=values, domains=domains, opset=opset)


def at_the_end(opset=17):
    """Boxes and scores into a plugin of TensorRT's library."""
    nodes, weights = backbone()
    for name, width in (("boxes", 4), ("scores", 5)):
        nodes.append(make_node("Conv", ["r1", f"w_{name}"], [f"c_{name}"], f"conv_{name}"))
        nodes.append(make_node("Reshape", [f"c_{name}", f"dims_{name}"], [name], f"reshape_{name}"))
        weights.append(weight(f"w_{name}", width, CHANNELS, 1, 1))
        weights.append(numpy_helper.from_array(np.array([0, -1, width]), f"dims_{name}"))
    results = ["count", "kept", "best", "classes"]
    nodes.append(make_node("EfficientNMS_TRT", ["boxes", "scores"], results, "nms", max_output_boxes=10))
    kinds = [TensorProto.INT32, TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.INT32]
    dims = [["N", 1], ["N", 10, 4], ["N", 10], ["N", 10]]
    return model(nodes, list(map(info, results, dims, kinds)), weights, opset=opset)


def in_front(*, declared=True):
    """A tokenizer of onnxruntime-extensions ahead of an embedding."""
    nodes = [
        make_node("BertTokenizer", ["text"], ["ids"], "tokenizer", domain="ai.onnx.contrib"),
        make_node("Gather", ["table", "ids"], ["rows"], "embedding"),
        make_node("Identity", ["rows"], ["same"], "useless"),
        make_node("MatMul", ["same", "w"], ["y"], "product"),
    ]
    weights = [weight("table", 20, CHANNELS), weight("w", CHANNELS, 4)]
    values = [info("ids", ["L"], TensorProto.INT64)] if declared else []
    text = [info("text", [1], TensorProto.STRING)]
    return model(nodes, [info("y", ["L", 4])], weights, inputs=text, values=values, domains=["ai.onnx.contrib"])


def in_a_branch(*, declared=True):
    """In one of the bodies of an If, which reads a value from outside."""
    nodes, weights = backbone()
    behind, more = head()
    then = [make_node("Swoosh", ["r1"], ["t0"], "swoosh", domain=OWN), make_node("Identity", ["t0"], ["t1"], "then")]
    bodies = {
        "then_branch": helper.make_graph(
            then, "then", [], [info("t1", PLANE)], value_info=[info("t0", PLANE)] if declared else []
        ),
        "else_branch": helper.make_graph([make_node("Sigmoid", ["r1"], ["e"], "else")], "else", [], [info("e", PLANE)]),
    }
    nodes += [
        make_node("ReduceMax", ["x"], ["most"], "most", keepdims=0),
        make_node("Greater", ["most", "zero"], ["large"], "large"),
        make_node("If", ["large"], ["z"], "choice", **bodies),
        *behind,
    ]
    weights += [*more, numpy_helper.from_array(np.float32(0), "zero")]
    return model(nodes, [info("y", ["N", CHANNELS])], weights, values=[info("z", PLANE)], domains=[OWN])


def in_a_function():
    nodes, weights = backbone()
    behind, more = head()
    body = [make_node("Swoosh", ["a"], ["b"], "swoosh", domain=OWN)]
    twice = helper.make_function("local", "Twice", ["a"], ["b"], body, [helper.make_opsetid(OWN, 1)])
    nodes = [*nodes, make_node("Twice", ["r1"], ["z"], "call", domain="local"), *behind]
    return model(
        nodes,
        [info("y", ["N", CHANNELS])],
        [*weights, *more],
        values=[info("z", PLANE)],
        domains=[OWN, "local"],
        functions=[twice],
    )


def two_of_them():
    """An operator of a library, and a plugin in the standard domain that reads what follows it."""
    nodes, weights = backbone()
    nodes += [
        make_node("Swoosh", ["r1"], ["z"], "swoosh", domain=OWN),
        make_node("Conv", ["z", "w2"], ["c2"], "conv2", pads=[1] * 4),
        make_node("Conv", ["r1", "w3"], ["offsets"], "offsets", pads=[1] * 4),
        make_node("DCNv2", ["c2", "offsets"], ["d"], "deformed"),
        make_node("GlobalAveragePool", ["d"], ["p"], "pool"),
        make_node("Flatten", ["p"], ["y"], "flatten"),
    ]
    weights += [weight("w2", CHANNELS, CHANNELS, 3, 3), weight("w3", 27, CHANNELS, 3, 3)]
    values = [info("z", PLANE), info("d", PLANE)]
    return model(nodes, [info("y", ["N", CHANNELS])], weights, values=values, domains=[OWN])


def feeds(count=16):
    return [{"x": RANDOM.normal(size=(1, 3, SIDE, SIDE)).astype(np.float32)} for _ in range(count)]


@pytest.fixture
def optimize(tmp_path):
    def run(made, **options):
        save(made, tmp_path / "model.onnx")
        return graphpress.optimize(tmp_path / "model.onnx", output=tmp_path / "out", **options)

    return run


def delivered(result):
    return load(result.output / "model.onnx")


def names(result):
    return {node.name for graph in graphs(delivered(result)) for node in graph}


CASES = {
    "middle": (in_the_middle, "acme.ops::Swoosh (swoosh)", "r1 into swoosh on true numbers, y on made-up numbers"),
    "undeclared": (lambda: in_the_middle(declared=False), "Swoosh (swoosh)", "model: r1 into swoosh on true numbers,"),
    "plugin": (lambda: in_the_middle("", "DCNv2"), "DCNv2 (swoosh)", "y on made-up numbers"),
    "unknown to ONNX Runtime": (lambda: in_the_middle("com.microsoft"), "com.microsoft::Swoosh", "y on made-up"),
    "end": (at_the_end, "EfficientNMS_TRT (nms)", "boxes into nms, scores into nms on true numbers"),
    "front": (in_front, "BertTokenizer (tokenizer)", "y on made-up numbers"),
    "branch": (in_a_branch, "Swoosh (swoosh)", "r1 into choice on true numbers, y on made-up numbers"),
    "undeclared in a branch": (lambda: in_a_branch(declared=False), "Swoosh (swoosh)", "y on made-up numbers"),
    "function": (in_a_function, "Swoosh", "r1 into call on true numbers, y on made-up numbers"),
    "two": (two_of_them, "acme.ops::Swoosh (swoosh), DCNv2 (deformed)", "y, c2 into deformed on made-up numbers"),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("target", ["cpu", "jetson"])
def test_is_cleaned_up_and_says_what_was_not_verified(optimize, case, target):
    make, operators, compared = CASES[case]
    if (case, target) in ((("function", "jetson")), ("unknown to ONNX Runtime", "jetson"), ("front", "jetson")):
        pytest.skip("TensorRT has no such thing, and says so")
    result = optimize(make(), target=target)
    assert result.status == "delivered"
    assert not names(result) & {"useless", "useless_too", "then"}
    assert result.report.baseline.latency_ms is None
    (warning,) = result.report.warnings
    assert operators in warning
    assert compared in warning
    assert "--custom-ops LIB" in warning
    first, *_ = summary(result.report, result.output).splitlines()
    assert "which nothing here can run" in first


def test_where_nothing_can_be_computed_the_structure_alone_is_checked(optimize):
    result = optimize(in_front(declared=False))
    assert "useless" not in names(result)
    assert "only the structure of the result was checked" in result.report.warnings[0]


@pytest.mark.parametrize("target", ["cpu", "jetson"])
def test_what_the_data_reaches_is_quantized(optimize, target):
    result = optimize(two_of_them(), data=feeds(), allow_worse=True, target=target)
    asked = {layer.name: layer.asked for layer in result.report.layers if layer.op == "Conv"}
    assert asked == {"conv0": "int8", "conv1": "int8", "offsets": "int8", "conv2": "float32"}
    assert result.report.metric_name == "closeness"
    assert 0.9 < result.report.result.metric < 1
    why = next(refusal for refusal in result.report.refusals if refusal.where == "conv2")
    assert "nothing here can run" in why.why
    assert "--custom-ops" in why.fix


@pytest.mark.parametrize("target", ["cpu", "jetson"])
def test_a_detector_with_a_plugin_behind_is_quantized_whole(optimize, target):
    result = optimize(at_the_end(opset=11), data=feeds(), allow_worse=True, target=target)
    assert {layer.asked for layer in result.report.layers if layer.op == "Conv"} == {"int8"}
    assert [node.op_type for node in delivered(result).graph][-1] == "EfficientNMS_TRT"


def test_what_is_wrong_ahead_of_it_is_not_delivered(optimize):
    """A pass that claims to be lossless, and is not."""

    def harm(pass_, model):
        for node in model.graph:
            if node.name == "conv1":
                weight = node.inputs[1]
                weight.const_value = Tensor(2 * weight.const_value.numpy(), name=weight.name)

    result = optimize(in_the_middle(), hooks={"before_pass": harm}, recipe="cleanup")
    assert result.status == "kept_original"


def test_labels_need_an_output_that_is_known(optimize):
    data = {"x": np.concatenate([feed["x"] for feed in feeds()]), "labels": np.arange(16) % CHANNELS}
    with pytest.raises(UsageError, match="no output can be computed without acme"):
        optimize(in_the_middle(), data=data, metric="top1")
    assert optimize(in_the_middle(), data=data, allow_worse=True).report.metric_name == "closeness"


def test_texts_for_a_tokenizer_that_is_not_here(optimize):
    result = optimize(in_front(), data={"text": np.array([["a"], ["b"]])})
    assert any("the data was not used" in note for note in result.report.notes)
    assert result.report.metric_name is None


def test_another_fault_is_told_as_it_is(optimize):
    made = in_the_middle()
    kernel = made.graph.initializers["w0"]
    kernel.const_value = Tensor(kernel.const_value.numpy().astype(np.float64), name="w0")
    kernel.dtype = kernel.const_value.dtype
    with pytest.raises(ModelError, match="conv0"):
        optimize(made)
