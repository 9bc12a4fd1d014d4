"""Types of tensors: those that a runtime has not, and operands that differ where they must agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from graphpress.ir import Model, Node, Value, graphs, subgraphs_of
from graphpress.ir.signatures import signature_of
from graphpress.lint.finding import Finding, fatal
from graphpress.lint.rules import Rule
from graphpress.lint.settled import settled_nodes
from graphpress.lint.support import Support

S = TypeVar("S", bound=Support)

FLOAT_TYPES = ("float32", "float16", "bfloat16")
"""Types that an operator computes in; whatever else is narrow is stored only, between Q and DQ."""

NAMES = {"float": "float32", "double": "float64"}


def type_name(value: Value) -> str:
    """The element type by the names of targets; "" where it is not known."""
    dtype = value.dtype
    if dtype is None and value.const_value is not None:
        dtype = value.const_value.dtype
    name = "" if dtype is None else dtype.name.lower()
    return NAMES.get(name, name)


def types_of(node: Node) -> list[str]:
    """Types of what a node reads and writes."""
    return [type_name(value) for value in (*node.inputs, *node.outputs) if value is not None]


def type_rule(missing: Callable[[Node | Value, str, S], Finding | None]) -> Rule[S]:
    """The rule that finds tensors of a type that is not there, at the node that makes or first reads them.

    Args:
        missing: the finding about a tensor of a type, called by that node or input; None where it is fine.
    """

    def type_findings(model: Model, support: S) -> Iterator[Finding]:
        for where, value in _tensors(model, support):
            name = type_name(value)
            if name and (finding := missing(where, name, support)) is not None:
                yield finding

    return type_findings


def _tensors(model: Model, support: Support) -> Iterator[tuple[Node | Value, Value]]:
    """Every tensor with the node that makes it or reads it as a constant; inputs stand for themselves."""
    settled = settled_nodes(model) if support.before_folding else frozenset[Node]()
    for graph in graphs(model):
        for value in graph.inputs:
            yield value, value
        for node in graph:
            if node not in settled:
                constants = (value for value in node.inputs if value is not None and value.is_initializer())
                yield from ((node, value) for value in (*constants, *node.outputs))


def mixture_findings(model: Model, support: Support) -> Iterator[Finding]:
    """Nodes whose operands should have one type, and have two."""
    for graph in graphs(model):
        for node in graph:
            if differing := _differing(node):
                yield fatal(
                    node,
                    f"its operands are {' and '.join(differing)}, and {support.runtime} converts none by itself",
                    "cast one of them, or give the nodes around it one float type",
                )


def _differing(node: Node) -> tuple[str, ...]:
    """Float types of inputs that the standard gives one type, where there are several."""
    signature = signature_of(node)
    if signature is None or next(subgraphs_of(node), None) is not None:
        return ()
    seen: dict[str, set[str]] = {}
    for index, value in enumerate(node.inputs):
        name = "" if value is None else type_name(value)
        if name in FLOAT_TYPES:
            formal = signature.inputs[min(index, len(signature.inputs) - 1)]  # the last one may stand for many
            seen.setdefault(formal.variable, set()).add(name)
    return next((tuple(sorted(types)) for types in seen.values() if len(types) > 1), ())
