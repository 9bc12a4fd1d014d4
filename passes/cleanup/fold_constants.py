"""Evaluate what depends on constants only, and turn ``Constant`` nodes into initializers.

    f(c₁, …, cₙ) = c      for constants cᵢ

Compared with the original, the model may grow by at most ``max_growth_bytes`` in all: what a fold adds counts, what it
makes superfluous is taken off. A blow-up (ConstantOfShape, Expand, Tile of a large shape) is refused before anything is
allocated.

Left alone without a word: random operators, QuantizeLinear and DequantizeLinear (they say how a constant is encoded),
nodes with subgraphs, other domains, function bodies (they cannot hold initializers), and what carries an encoding.
Refused with a reason: what would outgrow the bound, and what ONNX Runtime cannot evaluate. An initializer that is also
a graph input can be overridden by the caller and is no constant.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np

from graphpress.ir import (
    Editor,
    Graph,
    Model,
    Node,
    Refusal,
    Tensor,
    Value,
    constant,
    is_constant,
    is_standard,
    tensors,
    with_subgraphs,
)
from graphpress.ir.encoding import encoding_of, is_annotated, is_encoded
from graphpress.ir.values import holds_graphs, tensor_of
from graphpress.manager.contract import Context, Outcome, Pass
from graphpress.passes.cleanup._evaluate import evaluate as evaluate_at_runtime
from graphpress.passes.cleanup._evaluate import result_bytes
from graphpress.passes.cleanup._kernels import evaluate
from graphpress.passes.cleanup._purity import is_random

ANNOTATIONS = frozenset(("QuantizeLinear", "DequantizeLinear"))


@dataclass(frozen=True)
class FoldConstants(Pass):
    """Lossless: the runtime would compute the same at every call.

    Args:
        max_growth_bytes: bytes by which all folds together may enlarge the model.
    """

    name: ClassVar[str] = "fold_constants"

    max_growth_bytes: int = 1 << 20

    def run(self, model: Model, context: Context) -> Outcome:
        """Fold in the main graph and in the subgraphs, the outer ones first."""
        outcome = Outcome()
        edit = Editor(model)
        bodies = list(with_subgraphs(model.graph))
        if not any(_may_fold(node) for graph in bodies for node in graph):
            return outcome
        growth = _Growth(self.max_growth_bytes, model, context.original)
        for graph in bodies:
            outcome.changes += _settle_constants(graph, edit)
            folds = _Folds(model, growth, outcome.refusals)
            folds.find(graph)
            outcome.changes += folds.apply(edit)
        return outcome


def _may_fold(node: Node) -> bool:
    """Whether the node is a constant or reads nothing else, whatever may speak against folding it."""
    return all(value is None or is_constant(value) for value in node.inputs)


def _settle_constants(graph: Graph, edit: Editor) -> int:
    """Make initializers of the ``Constant`` nodes, except those that are graph outputs."""
    constants = [
        node
        for node in graph
        if node.op_type == "Constant" and is_constant(node.outputs[0]) and not node.outputs[0].is_graph_output()
    ]
    settled = 0
    for node in constants:
        old = node.outputs[0]
        attribute = node.attributes.get("value")
        contents = constant(old) if attribute is None else tensor_of(attribute)
        if contents is None or (isinstance(contents, np.ndarray) and contents.dtype == object):
            continue
        edit.replace(old, edit.add_constant(contents, old.name or "constant", graph))
        edit.remove(node)
        settled += 1
    return settled


@dataclass
class _Growth:
    """How far the model has grown, kept within its bound; measured when the first fold asks, and counted on from there.

    Args:
        limit: bytes by which the model may grow in all.
        model: as it stands, nothing folded yet.
        original: what its growth is measured against.
        unread: readers that are left of a value, where folds took some of them.
    """

    limit: int
    model: Model
    original: Model
    unread: dict[Value, int] = field(default_factory=dict)

    @cached_property
    def total(self) -> int:
        """Bytes by which the model is larger than the original; never below 0 at the start."""
        return max(0, _added_bytes(self.model, self.original))

    def admits(self, node: Node, added: int, sizes: dict[Value, int]) -> bool:
        """Whether folding ``node``, which adds so many bytes, stays within the bound; counts it if so."""
        freed = [
            value for value in dict.fromkeys(node.inputs) if value is not None and self._is_last_reader(value, node)
        ]
        growth = added - sum(sizes[value] for value in freed)
        total = self.total + growth
        if growth > 0 and total > self.limit:
            return False
        self.total = total
        for value in node.inputs:
            if value is not None:
                self.unread[value] = self.unread.get(value, len(value.uses())) - 1
        return True

    def _is_last_reader(self, value: Value, node: Node) -> bool:
        left = self.unread.get(value, len(value.uses()))
        return left == sum(operand is value for operand in node.inputs) and not value.is_graph_output()


def _added_bytes(model: Model, original: Model) -> int:
    """Bytes by which the constants of a model outweigh those of another; what both hold need not be measured."""
    now, before = list(tensors(model)), list(tensors(original))
    surplus = Counter(map(id, now))
    surplus.subtract(map(id, before))
    held = {id(tensor): tensor for tensor in (*now, *before)}
    return sum(count * held[key].nbytes for key, count in surplus.items() if count)


@dataclass
class _Folds:
    """The foldable nodes of one graph and their results."""

    model: Model
    growth: _Growth
    refusals: list[Refusal]
    arrays: dict[Value, np.ndarray] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)

    def find(self, graph: Graph) -> None:
        """One walk over the graph; what numpy cannot evaluate goes to ONNX Runtime together at the end."""
        later: dict[Node, None] = {}
        pending: set[Value | None] = set()
        for node in graph:
            if not self._may_be_known(node, pending) or not _is_foldable(node) or not self._are_known(node, pending):
                continue
            result = evaluate(node, self._operands(node)) if pending.isdisjoint(node.inputs) else None
            if result is None:
                later[node] = None
                pending.update(node.outputs)
            elif self._admit(node, result.nbytes):
                self._fold(node, {node.outputs[0]: result})
        if later:
            self._find_at_runtime(list(later))

    def _find_at_runtime(self, nodes: list[Node]) -> None:
        sizes = result_bytes(nodes, self.arrays, self.model)
        admitted = list(self._admitted(nodes, sizes))
        evaluation = evaluate_at_runtime(admitted, self.arrays, self.model) if admitted else None
        for node in admitted:
            if evaluation is not None and node not in evaluation.failures:
                self._fold(node, {output: evaluation.arrays[output] for output in node.outputs if output.name})
            elif evaluation is not None:
                self.refusals.append(Refusal.at(node, evaluation.failures[node]))

    def _admitted(self, nodes: Iterable[Node], sizes: dict[Value, int | None]) -> Iterable[Node]:
        """The nodes whose results are of a known size that fits, and that read no result of another."""
        left_out: set[Value | None] = set()
        planned = {value: array.nbytes for value, array in self.arrays.items()}
        for node in nodes:
            added = {output: sizes[output] for output in node.outputs if output.name}
            known = {output: size for output, size in added.items() if size is not None}
            if not left_out.isdisjoint(node.inputs):
                left_out.update(node.outputs)
            elif len(known) < len(added):
                self.refusals.append(Refusal.at(node, "the size of its result is not known ahead"))
                left_out.update(node.outputs)
            elif not self._admit(node, sum(known.values()), planned):
                left_out.update(node.outputs)
            else:
                planned.update(known)
                yield node

    def _admit(self, node: Node, added: int, sizes: dict[Value, int] | None = None) -> bool:
        known = sizes or {value: self.arrays[value].nbytes for value in node.inputs if value is not None}
        if self.growth.admits(node, added, known):
            return True
        self.refusals.append(
            Refusal.at(
                node,
                f"folding adds {added} bytes, and the model may grow by {self.growth.limit} bytes in all",
                "raise max_growth_bytes",
            )
        )
        return False

    def _may_be_known(self, node: Node, pending: set[Value | None]) -> bool:
        """The quick half of ``_are_known``, which rules out nearly every node."""
        return all(
            value is None or value in self.arrays or value in pending or is_constant(value) for value in node.inputs
        )

    def _are_known(self, node: Node, pending: set[Value | None]) -> bool:
        for value in node.inputs:
            if value is None or value in self.arrays or value in pending:
                continue
            array = constant(value)
            if array is None or array.dtype.kind not in "biuf" or encoding_of(value) is not None:
                return False
            self.arrays[value] = array
        return True

    def _operands(self, node: Node) -> list[np.ndarray | None]:
        return [None if value is None else self.arrays[value] for value in node.inputs]

    def _fold(self, node: Node, results: dict[Value, np.ndarray]) -> None:
        self.arrays.update(results)
        self.nodes.append(node)

    def apply(self, edit: Editor) -> int:
        """Put the results that somebody reads into the graph, and drop the nodes; the number of nodes folded."""
        folded = set(self.nodes)
        for node in self.nodes:
            for output in node.outputs:
                if output.is_graph_output():
                    made = edit.add_node("Constant", [], {"value": Tensor(self._contents(output))}, before=node)
                    edit.replace(output, made.outputs[0])
                elif any(use.node not in folded for use in output.uses()):
                    edit.replace(output, edit.add_constant_for(node, self._contents(output), output.name or "constant"))
        for node in reversed(self.nodes):
            edit.remove(node)
        return len(self.nodes)

    def _contents(self, output: Value) -> np.ndarray:
        return np.asarray(self.arrays[output], order="C")


def _is_foldable(node: Node) -> bool:
    return (
        is_standard(node)
        and node.op_type != "Constant"
        and node.op_type not in ANNOTATIONS
        and not is_random(node)
        and not holds_graphs(node)
        and bool(node.inputs)
        and not is_annotated(node)
        and not any(is_encoded(output) for output in node.outputs)
    )
