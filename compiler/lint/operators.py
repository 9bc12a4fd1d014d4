"""Operators that a runtime does not read, and operator sets beyond it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple, TypeVar

from graphpress.ir import Model, Node, graphs
from graphpress.ir.values import STANDARD_DOMAINS
from graphpress.lint.finding import Finding, fatal
from graphpress.lint.rules import Rule
from graphpress.lint.settled import settled_nodes
from graphpress.lint.support import Support

S = TypeVar("S", bound=Support)

Functions = Collection[tuple[str, str]]
"""Domain and name of the functions that a model brings along."""


class Remedy(NamedTuple):
    """Why a node is not read, and what helps."""

    why: str
    fix: str


def operator_rule(unknown: Callable[[Node, S, Functions], Remedy | None]) -> Rule[S]:
    """The rule that finds unknown operators, each node of them, and an operator set that is too new.

    Args:
        unknown: why a node is not read, or None where it is.
    """

    def operator_findings(model: Model, support: S) -> Iterator[Finding]:
        yield from _opset(model, support)
        settled = settled_nodes(model) if support.before_folding else frozenset[Node]()
        functions = {(domain, name) for domain, name, *_ in model.functions}
        for graph in graphs(model):
            for node in graph:
                if node not in settled and (remedy := unknown(node, support, functions)) is not None:
                    yield fatal(node, *remedy)

    return operator_findings


def unknown_operator(node: Node, support: Support, functions: Functions) -> Remedy | None:
    """The plain case: a runtime that reads standard operators, and functions that the model brings along."""
    if (node.domain, node.op_type) in functions:
        return None
    if node.domain in STANDARD_DOMAINS and node.op_type in support.operators:
        return None
    name = node.op_type if node.domain in STANDARD_DOMAINS else f"{node.domain}::{node.op_type}"
    return Remedy(f"{support.title} does not know {name}", "replace it by operators that it has (surgery)")


def _opset(model: Model, support: Support) -> Iterator[Finding]:
    declared = max((model.graph.opset_imports.get(domain, 0) for domain in STANDARD_DOMAINS), default=0)
    if declared > support.opset_max:
        yield fatal(
            next(iter(model.graph), None),
            f"the model is written in operator set {declared}, and {support.title} reads up to {support.opset_max}",
            f"export with operator set {support.opset_max}, or choose a device with a newer {support.runtime}",
        )
