"""What differs between a model and the one at the start of its transaction: where repair can be worth anything."""

from __future__ import annotations

import numpy as np

from graphpress.ir import Model, Node, Value, constant, is_constant, present_outputs
from graphpress.ir.encoding import read_encoding
from graphpress.ir.values import reads


def damaged(model: Model, start: Model) -> set[Value]:
    """The values of the main graph that may differ from those of the same name at the start.

    They do where a node, one of its constants or an encoding changed, and everywhere behind.
    """
    twins = {results[0].name: node for node in start.graph if (results := present_outputs(node))}
    changed: set[Value] = set()
    for node in model.graph:
        results = present_outputs(node)
        twin = twins.get(results[0].name) if results else None
        if any(value in changed for value in reads(node)) or twin is None or _differs(node, twin):
            changed.update(results)
    return changed


def _differs(node: Node, twin: Node) -> bool:
    if (node.op_type, len(node.inputs)) != (twin.op_type, len(twin.inputs)):
        return True
    if not _same_attributes(node, twin):
        return True
    return any(
        not _same(node.inputs[index], twin.inputs[index]) or read_encoding(node, index) != read_encoding(twin, index)
        for index in range(len(node.inputs))
    )


def _same_attributes(node: Node, twin: Node) -> bool:
    pairs = [(attribute, twin.attributes.get(name)) for name, attribute in node.attributes.items()]
    return len(pairs) == len(twin.attributes) and all(
        attribute is other or (other is not None and str(attribute) == str(other)) for attribute, other in pairs
    )


def _same(value: Value | None, twin: Value | None) -> bool:
    """Whether two inputs are the same: constants by contents, others by name."""
    if value is None or twin is None:
        return value is twin
    if is_constant(value) != is_constant(twin):
        return False
    if not is_constant(value):
        return value.name == twin.name
    if value.const_value is not None and value.const_value is twin.const_value:
        return True
    return np.array_equal(np.asarray(constant(value)), np.asarray(constant(twin)))
