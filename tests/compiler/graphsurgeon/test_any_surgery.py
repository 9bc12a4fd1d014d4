"""A surgery computes with us what it computes without us."""

from collections.abc import Mapping

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpress.graphsurgeon.convert import from_graphsurgeon, to_graphsurgeon
from graphpress.ir import Model, clone, from_proto, to_proto
from graphpress.models import build
from graphpress.runtime import Session

gs = pytest.importorskip("onnx_graphsurgeon")


def network() -> Model:
    return build("resnet", depth=18, width=4, classes=3)


def outputs(model: Model) -> Mapping[str, np.ndarray]:
    session = Session(model)
    dims = {spec.name: [dim if isinstance(dim, int) else 1 for dim in spec.dims or ()] for spec in session.inputs}
    return session.run({name: np.ones(shape, np.float32) for name, shape in dims.items()})


def same(model: Model, proto: onnx.ModelProto) -> None:
    actual = outputs(model)
    for name, array in outputs(from_proto(proto)).items():
        assert np.array_equal(actual[name], array)


def test_what_graphsurgeon_exports_by_itself_is_whole():
    same(network(), gs.export_onnx(to_graphsurgeon(network())))


STEPS = st.lists(st.tuples(st.sampled_from(["copy", "double", "rename", "remove"]), st.integers(0, 30)), max_size=6)


def operate(graph: gs.Graph, steps: list[tuple[str, int]]) -> None:
    """Small changes that keep the graph valid, chosen by number."""
    for count, (step, number) in enumerate(steps):
        constants = [
            tensor
            for tensor in graph.tensors().values()
            if isinstance(tensor, gs.Constant) and tensor.dtype == np.float32
        ]
        inner = [t for node in graph.nodes for t in node.outputs if t not in graph.outputs and t.dtype == np.float32]
        if step == "double" and constants:
            chosen = constants[number % len(constants)]
            chosen.values = chosen.values * np.float32(2)
        elif step == "rename" and inner:
            inner[number % len(inner)].name = f"renamed{count}"
        elif step == "copy" and inner:
            source = inner[number % len(inner)]
            target = gs.Variable(f"copied{count}", source.dtype, source.shape)
            for reader in list(source.outputs):
                reader.inputs = [target if tensor is source else tensor for tensor in reader.inputs]
            graph.nodes.append(gs.Node("Identity", f"copy{count}", inputs=[source], outputs=[target]))
        elif step == "remove":
            for node in [node for node in graph.nodes if node.op == "Relu" and node.outputs[0].outputs][:1]:
                for reader in list(node.outputs[0].outputs):
                    reader.inputs = [
                        node.inputs[0] if tensor is node.outputs[0] else tensor for tensor in reader.inputs
                    ]
    graph.cleanup().toposort()


@settings(max_examples=10, deadline=None, derandomize=True)
@given(steps=STEPS)
def test_any_surgery_computes_what_it_computes_without_us(steps):
    model = network()
    plain, graph = gs.import_onnx(to_proto(clone(model))), to_graphsurgeon(model)
    operate(plain, steps)
    operate(graph, steps)
    same(from_graphsurgeon(graph, like=model), gs.export_onnx(plain))
