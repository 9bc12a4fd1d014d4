"""Which operators ONNX Runtime has no kernel for: each node beyond the standard is loaded as a model of its own."""

from __future__ import annotations

from graphpress.errors import ModelError
from graphpress.ir import DataType, Graph, Model, Node, TensorType, Value
from graphpress.ir.foreign import nonstandard_nodes
from graphpress.ir.opaque import Operator
from graphpress.runtime.session import Session


def operators_without_kernel(model: Model) -> frozenset[Operator]:
    """Operators beyond the standard of which some node cannot be loaded, with the libraries that the user named.

    Args:
        model: its types inferred: a kernel is one for some types. Where none is known, float32 stands for it.
    """
    known: dict[object, bool] = {}
    missing = set[Operator]()
    for node in nonstandard_nodes(model):
        operator = (node.domain, node.op_type)
        key = (operator, *(None if value is None else value.type for value in node.inputs))
        if operator in missing or known.get(key):
            continue
        known[key] = _loads(node, model)
        if not known[key]:
            missing.add(operator)
    return frozenset(missing)


def _loads(node: Node, model: Model) -> bool:
    try:
        Session(_alone(node, model), optimization="none")
    except ModelError:
        return False
    return True


def _alone(node: Node, model: Model) -> Model:
    """A model of the node, whose operands are its inputs."""
    operands = {value: _like(value, f"operand_{at}") for at, value in enumerate(node.inputs) if value is not None}
    results = [_like(value, f"result_{at}" if value.name else "") for at, value in enumerate(node.outputs)]
    copy = Node(
        node.domain,
        node.op_type,
        [None if value is None else operands[value] for value in node.inputs],
        list(node.attributes.values()),
        outputs=results,
    )
    imports = {**model.graph.opset_imports, **(node.graph.opset_imports if node.graph is not None else {})}
    graph = Graph(
        list(operands.values()), [result for result in results if result.name], nodes=[copy], opset_imports=imports
    )
    return Model(graph, ir_version=model.ir_version)


def _like(value: Value, name: str) -> Value:
    return Value(name=name, shape=value.shape, type=value.type or TensorType(DataType.FLOAT))
