"""Remove what no output depends on.

In every graph, subgraphs and function bodies included: nodes whose results nobody reads, optional results that nobody
reads (the mask of a Dropout, the indices of a MaxPool, the final states of an LSTM), initializers without a reader.
In the model: functions that nothing calls, and operator-set imports of domains that nothing uses.

Inputs and outputs of the model stay, read or not. A BatchNormalization before opset 14 keeps its results: their number
says whether it is training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import onnx.defs

from graphpress.ir import Editor, Function, Graph, Model, Node, Value, graphs, is_standard, subgraphs_of, with_subgraphs
from graphpress.manager.contract import Context, Outcome, Pass


@dataclass(frozen=True)
class DeadCodeElimination(Pass):
    """Lossless: nothing that is left can tell the difference."""

    name: ClassVar[str] = "dce"

    def run(self, model: Model, context: Context) -> Outcome:
        """Sweep each graph once, from its end, so that what a removed node read is looked at after it."""
        edit = Editor(model)
        changes = _drop_uncalled_functions(model)
        bodies: list[Graph | Function] = [model.graph, *model.functions.values()]
        changes += sum(_drop_dead_nodes(body, edit) for body in bodies)
        remaining = list(graphs(model))
        for graph in remaining:
            version = _opset_of(graph, model)
            changes += sum(_trim_outputs(node, version) for node in graph)
            changes += _drop_unread_initializers(graph, edit)
        return Outcome(changes + _drop_unused_imports(model, remaining))


def _drop_dead_nodes(graph: Graph | Function, edit: Editor) -> int:
    dropped = 0
    for node in reversed(graph):
        if not any(_is_needed(output) for output in node.outputs):
            _detach_subgraphs(node)
            edit.remove(node)
            dropped += 1
        else:
            dropped += sum(_drop_dead_nodes(subgraph, edit) for subgraph in subgraphs_of(node))
    return dropped


def _is_needed(value: Value) -> bool:
    return value.is_graph_output() or bool(value.uses())


def _detach_subgraphs(node: Node) -> None:
    """Let the nodes inside stop reading values from outside, so that those can die as well."""
    for subgraph in subgraphs_of(node):
        for inner in subgraph:
            _detach_subgraphs(inner)
            inner.resize_inputs(0)


def _trim_outputs(node: Node, version: int) -> int:
    if len(node.outputs) < 2 or not is_standard(node) or (node.op_type == "BatchNormalization" and version < 14):
        return 0
    optional = _optional_outputs(node, version)
    unread = [index for index, output in enumerate(node.outputs) if index in optional and not _is_needed(output)]
    kept = len(node.outputs)
    while kept - 1 in unread:
        kept -= 1
    trimmed = len(node.outputs) - kept
    node.resize_outputs(kept)
    for index in unread:
        if index < kept and node.outputs[index].name != "":
            node.outputs[index].name = ""
            trimmed += 1
    return trimmed


def _optional_outputs(node: Node, version: int) -> frozenset[int]:
    try:
        schema = onnx.defs.get_schema(node.op_type, version, "")
    except onnx.defs.SchemaError:
        return frozenset()
    optional = onnx.defs.OpSchema.FormalParameterOption.Optional
    return frozenset(index for index, output in enumerate(schema.outputs) if output.option == optional)


def _opset_of(graph: Graph | Function, model: Model) -> int:
    imports = graph.opset_imports if isinstance(graph, Function) else model.opset_imports
    return imports.get("", model.opset_imports.get("", 1))


def _drop_unread_initializers(graph: Graph | Function, edit: Editor) -> int:
    if isinstance(graph, Function):
        return 0
    unread = [value for value in graph.initializers.values() if not _is_needed(value) and not value.is_graph_input()]
    for value in unread:
        edit.drop_if_unused(value)
    return len(unread)


def _drop_uncalled_functions(model: Model) -> int:
    if not model.functions:
        return 0
    called = set()
    waiting = list(_nodes_within(model.graph))
    while waiting:
        identifier = waiting.pop().op_identifier()
        if identifier in model.functions and identifier not in called:
            called.add(identifier)
            waiting.extend(_nodes_within(model.functions[identifier]))
    uncalled = [identifier for identifier in model.functions if identifier not in called]
    for identifier in uncalled:
        del model.functions[identifier]
    return len(uncalled)


def _nodes_within(graph: Graph | Function) -> Iterator[Node]:
    return (node for inner in with_subgraphs(graph) for node in inner)


def _drop_unused_imports(model: Model, remaining: Sequence[Graph | Function]) -> int:
    used = {"", *(function.domain for function in model.functions.values())}
    used.update(node.domain for graph in remaining for node in graph)
    unused = [domain for domain in model.opset_imports if domain not in used and domain != "ai.onnx"]
    for domain in unused:
        del model.opset_imports[domain]
    return len(unused)
