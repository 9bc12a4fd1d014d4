"""The numeric comparison of outputs."""

import numpy as np
import onnx.parser
import pytest

from graphpress.ir import Editor, clone, from_proto
from graphpress.ir.encoding import AffineEncoding, set_encoding
from graphpress.manager.verification import Probe, first_difference, rounded_at_one


def feed(seed=0):
    return {"input": np.random.default_rng(seed).normal(size=(1, 3, 8, 8)).astype(np.float32)}


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        (np.float32([1, 2]), np.float32([1, 2]), None),
        (np.float32([1, 2]), np.float32([1, 2.001]), None),
        (np.float32([1, 2]), np.float32([1, 2.01]), "differs by 0.01"),
        (np.float64([1, 2]), np.float64([1, 2.001]), "differs by 0.001"),
        (np.float16([1, 2]), np.float16([1, 2.01]), None),
        (np.float32([0, 0]), np.float32([0, 1e-3]), "differs by 0.001"),
        (np.float32([1, 2]), np.float32([[1, 2]]), "is float32[1, 2], not float32[2]"),
        (np.float32([1, 2]), np.float64([1, 2]), "is float64[2], not float32[2]"),
        (np.int64([1, 2]), np.int64([1, 3]), "differs in 1 of 2 elements"),
        (np.bool_([True]), np.bool_([True]), None),
        (np.float32([np.nan, 1]), np.float32([np.nan, 1]), None),
        (np.float32([np.inf, 1]), np.float32([1, 1]), "is finite in other places"),
        (np.complex64([1j]), np.complex64([1j]), None),
        (np.array(["a"], object), np.array(["b"], object), "differs in 1 of 1 elements"),
        ([np.float32([1])], [np.float32([1])], None),
        ([np.float32([1])], [], "is another sequence"),
        ([np.float32([1])], [np.float32([2])], "differs by 1"),
        ({"a": 1}, {"a": 1}, None),
        (None, None, None),
    ],
)
def test_difference(one, other, found):
    result = first_difference({"y": one}, {"y": other})
    assert (result is None) if found is None else (found in result)


def test_infinities_of_the_other_sign_differ():
    assert first_difference({"y": np.float32([np.inf, 1])}, {"y": np.float32([-np.inf, 1])})


def test_lists_of_outputs_are_compared_by_name_and_order():
    assert first_difference({"a": 1, "b": 1}, {"b": 1, "a": 1}) == "outputs are ['b', 'a'], not ['a', 'b']"


def test_a_copy_answers_the_same_and_a_changed_weight_does_not(network):
    probe = Probe.of(network, [feed()])
    assert probe.difference(clone(network)) is None
    other = clone(network)
    conv = next(node for node in other.graph if node.op_type == "Conv")
    conv.attributes.pop("pads")
    assert probe.difference(other)


def test_a_lost_encoding_is_a_difference(network):
    set_encoding(network.graph.inputs[0], AffineEncoding("int8", (0.5,), (0,)))
    probe = Probe.of(network, [feed()])
    assert probe.difference(clone(network)) is None
    bare = clone(network)
    set_encoding(bare.graph.inputs[0], None)
    assert "differs by" in probe.difference(bare)


def test_answers_of_a_session_that_rewrites_more_are_looked_at_once_more(network):
    """A rounding of its own must not be taken for a fault, nor a fault for a rounding."""
    feeds = [feed()]
    answers = Probe.of(network, feeds).expected
    off = [{name: array * np.float32(1.1) for name, array in answer.items()} for answer in answers]
    assert Probe(feeds, off).difference(network)
    assert Probe(feeds, off, again=network).difference(network) is None
    other = clone(network)
    scaled = next(value for value in other.graph.initializers.values() if len(value.shape) == 4)
    Editor(other).set_constant(scaled, 2 * scaled.const_value.numpy())
    assert Probe(feeds, answers, again=network).difference(other)


def test_results_of_bounded_functions_are_compared_to_the_last_digits_of_one():
    """A sigmoid of -10 is 4.5e-5, which runtimes compute to a rounding of 1; the same difference elsewhere counts."""
    expected, actual = {"score": np.float32([4.4e-5])}, {"score": np.float32([4.41e-5])}
    assert first_difference(expected, actual) is not None
    assert first_difference(expected, actual, at_one={"score"}) is None
    assert first_difference({"score": np.float32([0.5])}, {"score": np.float32([0.501])}, at_one={"score"}) is not None


@pytest.mark.parametrize(("operator", "names"), [("Sigmoid", {"y"}), ("Relu", set())])
def test_a_bounded_function_is_found_behind_what_moves_its_results(operator, names):
    text = f"g (float[2, 3] x) => (float[3, 2] y) {{ s = {operator}(x)  y = Transpose<perm = [1, 0]>(s) }}"
    model = from_proto(onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 17]> {text}'))
    assert rounded_at_one(model) == names
