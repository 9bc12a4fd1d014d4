"""What a runtime refuses of operators that it reads otherwise, as its data says."""

from __future__ import annotations

from collections.abc import Iterator

from graphpress.ir import Attr, AttributeType, Model, Node, graphs, input_of, is_standard, rank_of, scalar
from graphpress.lint.finding import Finding, fatal
from graphpress.lint.settled import is_settled, settled_nodes
from graphpress.lint.support import Limit, Support
from graphpress.lint.types import type_name

CARRIED_FROM = 2
"""Inputs of a Loop from here on are values that it carries; outputs beyond their number are stacked."""

LISTS = (AttributeType.INTS, AttributeType.FLOATS, AttributeType.STRINGS)


def limit_findings(model: Model, support: Support) -> Iterator[Finding]:
    """Every node that breaks a limit of its operator."""
    settled = settled_nodes(model)
    for graph in graphs(model):
        for node in graph:
            if not is_standard(node) or (support.before_folding and node in settled):
                continue
            for limit in support.limits.get(node.op_type, ()):
                if _breaks(node, limit, settled):
                    yield fatal(node, f"{support.title}'s {node.op_type} {limit.why}", limit.fix)


def type_limit(node: Node, dtype: str, support: Support) -> Limit | None:
    """The limit that keeps a standard node from computing in a float type, if there is one."""
    limits = support.limits.get(node.op_type, ()) if is_standard(node) else ()
    return next((limit for limit in limits if _excludes(limit, node, dtype)), None)


def _excludes(limit: Limit, node: Node, dtype: str) -> bool:
    holds = limit.given is None or input_of(node, limit.given) is not None
    return limit.types is not None and dtype not in ("", *limit.types) and holds


def _breaks(node: Node, limit: Limit, settled: frozenset[Node]) -> bool:
    if limit.types is not None:
        data = input_of(node, 0)
        return data is not None and _excludes(limit, node, type_name(data))
    if limit.outputs is not None:
        return any(_is_used(node, index) for index in range(limit.outputs, len(node.outputs)))
    if limit.inputs is not None:
        return any(value is not None for value in node.inputs[limit.inputs :])
    if limit.attribute:
        attribute = node.attributes.get(limit.attribute)
        return attribute is not None and _is_beyond(attribute, limit)
    if limit.rank is not None:
        rank = rank_of(input_of(node, 0))
        return rank is not None and rank != limit.rank
    if limit.scans and len(node.outputs) <= len(node.inputs) - CARRIED_FROM:
        return False
    value = None if limit.input is None else input_of(node, limit.input)
    if value is None:
        return limit.scans
    if limit.max is not None:
        number = scalar(value)
        return number is not None and number > limit.max
    return not is_settled(value, settled)


def _is_used(node: Node, index: int) -> bool:
    value = node.outputs[index]
    return bool(value.uses()) or value.is_graph_output()


def _is_beyond(attribute: Attr, limit: Limit) -> bool:
    if limit.allowed is None:
        return limit.without in attribute.as_string()
    values = attribute.value if attribute.type in LISTS else [attribute.value]
    return any(value not in limit.allowed for value in values)
