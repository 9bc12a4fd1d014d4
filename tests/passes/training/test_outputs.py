import onnx.parser
import pytest

from graphpress.ir import from_proto
from graphpress.manager.prepare import prepare
from graphpress.models import build
from graphpress.passes.training._blocks import borders, cuts, learned
from graphpress.passes.training._outputs import Reading, read_outputs


def model_of(text, opset=17):
    model = from_proto(onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": {opset}]> g {text}'))
    prepare(model, {})
    return model


SCORES = "(float[N,4] x) => (float[N,4] y) { "


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (SCORES + "y = Relu(x) }", Reading("y", "y", "classes", 1)),
        (SCORES + "z = Relu(x) y = Softmax(z) }", Reading("y", "z", "classes", -1)),
        (SCORES + "z = Relu(x) p = LogSoftmax<axis=1>(z) y = Identity(p) }", Reading("y", "z", "classes", 1)),
        (SCORES + "z = Relu(x) y = Sigmoid(z) }", Reading("y", "z", "decisions")),
        (SCORES + "y = LpNormalization(x) }", Reading("y", "y", "values")),
        ("(float[N,1] x) => (float[N,1] y) { y = Relu(x) }", Reading("y", "y", "values")),
        ("(float[N,4,1,1] x) => (float[N,4,1,1] y) { y = Relu(x) }", Reading("y", "y", "classes", 1)),
        ("(float[N,4,8,8] x) => (float[N,4,8,8] y) { y = Relu(x) }", Reading("y", "y", "values")),
        ("(float[N,5,4] x) => (float[N,5,4] y) { y = Tanh(x) }", Reading("y", "y", "values")),
        ("(float[N,5,4] x) => (float[N,5,9] y) <float[4,9] w = {" + ",".join("1" * 36) + "}> { y = MatMul(x, w) }",
         Reading("y", "y", "classes", -1)),
    ],
)  # fmt: skip
def test_what_an_output_means(text, wanted):
    assert read_outputs(model_of(text)) == [wanted]


def test_a_flattening_softmax_is_read_as_values():
    text = "(float[N,5,4] x) => (float[N,5,4] y) { y = Softmax(x) }"
    assert read_outputs(model_of(text, 11))[0].kind == "values"
    assert read_outputs(model_of(SCORES + "y = Softmax(x) }", 11)) == [Reading("y", "x", "classes", 1)]


def test_of_several_outputs_only_probabilities_are_known():
    model = model_of("(float[N,4] x) => (float[N,4] a, float[N,4] b, int64[N] c) "
                     "{ a = Relu(x) b = Softmax(x) c = ArgMax<axis=1, keepdims=0>(x) }")  # fmt: skip
    assert read_outputs(model) == [Reading("a", "a", "values"), Reading("b", "x", "classes", -1)]
    kinds = {reading.output.partition("_")[0]: reading.kind for reading in read_outputs(build("detector"))}
    assert kinds == {"class": "decisions", "score": "decisions", "box": "values"}


def test_losses_by_choice():
    model = model_of(SCORES + "y = Softmax(x) }")
    assert read_outputs(model, "mse") == [Reading("y", "y", "values")]
    dense = model_of("(float[N,4,8,8] x) => (float[N,4,8,8] y) { y = Relu(x) }")
    assert read_outputs(dense, "kl") == [Reading("y", "y", "classes", 1)]


def test_cuts_are_what_everything_flows_through():
    model = model_of(
        "(float[N,4] x) => (float[N,4] y) { a = Relu(x) b = Tanh(a) c = Add(a, b) d = Abs(c) y = Mul(d, d) }"
    )
    assert cuts(model) == ["a", "c", "d"]
    skip = model_of("(float[N,4] x) => (float[N,4] y) { a = Relu(x) b = Tanh(a) y = Add(x, b) }")
    assert cuts(skip) == []
    two = model_of("(float[N,4] x) => (float[N,4] y, float[N,4] b) { a = Relu(x) b = Tanh(a) c = Abs(b) y = Neg(c) }")
    assert cuts(two) == ["a"]


def test_what_depends_on_no_weight_may_pass_beside_a_cut():
    """A mask that every block reads."""
    model = model_of(
        "(float[N,4] x, float[N,4] m) => (float[N,4] y) <float[4,4] w = {" + ",".join("1" * 16) + "}> "
        "{ s = Neg(x) n = Neg(m) a = MatMul(s, w) b = Add(a, n) c = MatMul(b, w) d = Add(c, n) y = Abs(d) }"
    )
    assert cuts(model) == ["d"]
    behind = learned(model, lambda value: value.name == "w")
    assert cuts(model, behind.__contains__) == ["a", "b", "c", "d"]


def test_borders_of_a_residual_network():
    model = build("resnet", depth=8, stem="cifar", width=4, image=8)
    prepare(model, {})
    names = {value.name for value in model.graph.initializers.values()}
    names_between = borders(model, dict.fromkeys(names), lambda name: True)
    assert {"/stem/Relu_output_0", "/layer1/0/Relu_1_output_0", "/layer2/0/Relu_1_output_0"} <= set(names_between)
    without = borders(model, dict.fromkeys(names), lambda name: name != names_between[1])
    assert names_between[1] not in without
    assert set(names_between) - set(without) == {names_between[1]}
    assert borders(model, {}, lambda name: True) == []
