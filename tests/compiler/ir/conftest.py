"""Models from text for the tests of the IR, and what runs them."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from graphpress.ir import Model, Node, Value, clone, from_proto, graphs, materialize_float_types, problems, to_proto
from graphpress.ir.encoding import float_type, set_float_type
from graphpress.ir.float_types import why_not
from graphpress.ir.qdq import materialize_qdq
from graphpress.ir.signatures import known_types
from graphpress.runtime import Session


def build_model(text: str, opset: int = 17, ir_version: int = 10, functions: str = "", **weights: np.ndarray) -> Model:
    imports = f'"": {opset}, "custom": 1' + (', "local": 1' if functions else "")
    proto = onnx.parser.parse_model(f"<ir_version: {ir_version}, opset_import: [{imports}]> g {text}\n{functions}")
    proto.graph.initializer.extend(numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items())
    return from_proto(proto)


def run_model(model: Model, feed: Mapping[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
    """The outputs in ONNX Runtime without its own rewriting; made-up inputs unless given."""
    session = Session(model, optimization="none")
    random = np.random.default_rng(0)
    made_up = {
        spec.name: random.normal(0, 3, [dim if isinstance(dim, int) else 2 for dim in spec.dims]).astype(spec.dtype)
        for spec in session.inputs
    }
    return session.run(made_up | dict(feed or {}))


@pytest.fixture
def build():
    return build_model


@pytest.fixture
def weight():
    return np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)


@pytest.fixture
def model(build, weight):
    """Two products with weights of 16 kilobytes, and a small addition between them."""
    text = "(float[N,64] x) => (float[N,64] y) { h = MatMul (x, w) i = Add (h, b) y = MatMul (i, v) }"
    return build(text, w=weight, v=weight.T.copy(), b=weight[0])


@pytest.fixture
def run():
    return run_model


@pytest.fixture
def value_of():
    """The value of a name, wherever in the model."""

    def find(model: Model, name: str) -> Value:
        for graph in graphs(model):
            candidates = [*graph.inputs, *getattr(graph, "initializers", {}).values()]
            candidates += [output for node in graph for output in node.outputs]
            for value in candidates:
                if value.name == name:
                    return value
        raise KeyError(name)

    return find


@pytest.fixture
def node_of(value_of):
    """The node that computes the value of a name."""

    def find(model: Model, name: str) -> Node:
        node = value_of(model, name).producer()
        assert node is not None
        return node

    return find


HALF_TOLERANCE = 2e-3
"""Relative to the largest output; a few roundings of 2⁻¹¹."""


def ask_for(model, dtype="float16", results=None):
    """Ask the nodes that compute these values (or every node that can) for a type."""
    types = known_types(model)
    for graph in (model.graph, *model.graph.subgraphs()):
        for node in graph:
            wanted = results is None or node.outputs[0].name in results
            if wanted and why_not(node, dtype, types) is None:
                set_float_type(node, dtype)
    return model


def materialized_copy(model, simulate=False):
    """A checked copy with its types written out."""
    copy = clone(model)
    materialize_qdq(copy)
    materialize_float_types(copy, simulate=simulate)
    assert problems(copy) == []
    check_proto(copy)
    assert all(float_type(node) is None for graph in graphs(copy) for node in graph)
    return copy


def check_proto(model):
    proto = to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    onnx.shape_inference.infer_shapes(proto, strict_mode=True)


def count_casts(model):
    return sum(node.op_type == "Cast" for graph in graphs(model) for node in graph)


def count_operators(model):
    return Counter(node.op_type for node in model.graph)


def check_agreement(model, changed, tolerance=HALF_TOLERANCE, feed=None):
    """The same results, within a share of the largest element of each."""
    expected, actual = run_model(model, feed), run_model(changed, feed)
    assert expected.keys() == actual.keys()
    for name, array in expected.items():
        assert actual[name].dtype == array.dtype
        largest = max(float(np.abs(array).max()), 1e-6)
        np.testing.assert_allclose(actual[name], array, atol=tolerance * largest, rtol=0)


@pytest.fixture(scope="session")
def ask():
    return ask_for


@pytest.fixture(scope="session")
def materialized():
    return materialized_copy


@pytest.fixture(scope="session")
def casts():
    return count_casts


@pytest.fixture(scope="session")
def operators():
    return count_operators


@pytest.fixture(scope="session")
def agree():
    return check_agreement
