"""Models from text for the tests of the IR, and what runs them."""

from collections.abc import Mapping

import numpy as np
import onnx.parser
import pytest
from onnx import numpy_helper

from graphpress.ir import Model, Node, Value, from_proto, graphs
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
