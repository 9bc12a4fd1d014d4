"""The structural verifier: which node or value breaks which rule."""

from __future__ import annotations

from collections.abc import Iterable

from graphpress.errors import GraphpressError
from graphpress.ir.encoding.checks import encoding_problems
from graphpress.ir.functions import function_problems
from graphpress.ir.sparsity import sparsity_problems
from graphpress.ir.types import Function, Graph, Model, Node, TensorProtocol, Value
from graphpress.ir.values import STANDARD_DOMAINS, dims_text, label, subgraphs_of

STANDARD = frozenset(STANDARD_DOMAINS)


class InvalidGraphError(GraphpressError):
    """A pass left a graph that breaks the rules of ONNX: a bug in that pass."""

    exit_code = 3


def verify(model: Model) -> None:
    """Check the whole model, linear in its size.

    Raises:
        InvalidGraphError: names the first few nodes or values that break a rule.
    """
    if faults := problems(model):
        raise InvalidGraphError("; ".join(faults[:3]), fix="report the pass that produced this graph")


def problems(model: Model) -> list[str]:
    """Every broken rule: of the structure first, then of the annotations."""
    return structure_problems(model) + annotation_problems(model)


def structure_problems(model: Model) -> list[str]:
    """Use before definition, names that are missing or given twice, undeclared operator sets, constants whose declared
    shape or type is not that of their tensor, functions without end.
    """
    functions = {identifier[:2] for identifier in model.functions}
    faults = _graph_problems(model.graph, set(), _domains(model.opset_imports), functions)
    for function in model.functions.values():
        faults += _graph_problems(function, set(), _domains(function.opset_imports), functions)
    return faults + function_problems(model)


def annotation_problems(model: Model) -> list[str]:
    """Encodings and sparsity that do not hold."""
    return encoding_problems(model) + sparsity_problems(model)


def _domains(opsets: Iterable[str]) -> set[str]:
    """The domains for which operator sets are declared: either name of the standard one stands for both."""
    return {*opsets, *(() if STANDARD.isdisjoint(opsets) else STANDARD)}


def _graph_problems(
    graph: Graph | Function, outer: set[Value], domains: set[str], functions: set[tuple[str, str]]
) -> list[str]:
    faults: list[str] = []
    visible = set(outer)
    names: set[str] = set()

    def define(value: Value) -> None:
        if value.name and value.name in names:
            faults.append(f"the name {value.name!r} is given to two values")
        if value.name:
            names.add(value.name)
        visible.add(value)

    for value in graph.inputs:
        define(value)
    if isinstance(graph, Graph):
        for value in graph.initializers.values():
            faults += _constant_problems(value)
            if not value.is_graph_input():
                define(value)
    for node in graph:
        faults += _node_problems(node, visible, domains, functions)
        for subgraph in subgraphs_of(node):
            faults += _graph_problems(subgraph, visible, domains, functions)
        for output in node.outputs:
            if output.name != "":
                define(output)
    faults += [f"graph output {label(out)} is computed by nothing" for out in graph.outputs if out not in visible]
    return faults


def _node_problems(node: Node, visible: set[Value], domains: set[str], functions: set[tuple[str, str]]) -> list[str]:
    faults = [
        f"{label(node)} reads {label(value)}, which nothing before it computes"
        for value in node.inputs
        if value is not None and value not in visible
    ]
    if node.domain not in domains and (node.domain, node.op_type) not in functions:
        faults.append(f"{label(node)} is of domain {node.domain!r}, for which no operator set is declared")
    return faults


def _constant_problems(value: Value) -> list[str]:
    tensor = value.const_value
    if tensor is None:
        return [f"initializer {label(value)} has no contents"]
    faults = []
    if value.dtype is not None and value.dtype != tensor.dtype:
        faults.append(f"initializer {label(value)} is declared {value.dtype} but holds {tensor.dtype}")
    if not fits_declared(value, tensor):
        declared = dims_text(value.shape or ())
        faults.append(f"initializer {label(value)} is declared {declared} but holds {list(tensor.shape)}")
    return faults


def fits_declared(value: Value, tensor: TensorProtocol) -> bool:
    """Whether the tensor has the shape that the value declares, as far as it declares one."""
    if value.shape is None:
        return True
    return len(value.shape) == len(tensor.shape) and all(
        declared == size for declared, size in zip(value.shape, tensor.shape, strict=True) if isinstance(declared, int)
    )
