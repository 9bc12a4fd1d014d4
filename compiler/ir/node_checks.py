"""Nodes of a message against the schemas of their operators, as every runtime checks them when it loads a model.

Whoever reads a node later relies on it: the number of its inputs and outputs, inputs that must be there, the types of
its attributes, attributes that must be there. What no schema is known for is left to the runtime.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

import onnx
from onnx import AttributeProto

from graphpress.errors import ModelError
from graphpress.ir.contents import CHECKER

_SINGLE = onnx.defs.OpSchema.FormalParameterOption.Single
_FIELD_OF = {
    AttributeProto.FLOAT: "f", AttributeProto.INT: "i", AttributeProto.STRING: "s", AttributeProto.TENSOR: "t",
    AttributeProto.GRAPH: "g",
}  # fmt: skip
_GRAPHS = (AttributeProto.GRAPH, AttributeProto.GRAPHS)


class _Rules(NamedTuple):
    """What the schema of an operator wants.

    Args:
        inputs, outputs: least and most that it has.
        single: which of its inputs cannot be left out.
        types: type of each attribute.
        required: attributes that must be there.
    """

    inputs: tuple[int, int]
    outputs: tuple[int, int]
    single: tuple[bool, ...]
    types: Mapping[str, int]
    required: tuple[str, ...]


def check_node(node: onnx.NodeProto, versions: Mapping[str, int], where: str, *, in_function: bool) -> None:
    """Check one node, not the graphs that it holds.

    Args:
        node: any.
        versions: the operator sets that hold where it stands, by domain.
        where: what errors call the model.
        in_function: whether its attributes may refer to those of a caller.

    Raises:
        ModelError: the node, and which rule it breaks.
    """
    domain = "" if node.domain == "ai.onnx" else node.domain
    rules = _rules_of(node.op_type, domain, versions.get(domain, 0))
    if (fault := _fault(node, rules, in_function)) is not None:
        called = f"{node.name or ', '.join(node.output)} ({node.op_type})"
        raise ModelError(fault, where=f"{where}, node {called!r}", fix=CHECKER)


def _fault(node: onnx.NodeProto, rules: _Rules | None, in_function: bool) -> str | None:
    attributes = list(node.attribute)
    names = [attribute.name for attribute in attributes]
    if len(set(names)) < len(names):
        return "it has two attributes of one name"
    for attribute in attributes:
        if (fault := _fault_of_attribute(attribute, rules, in_function)) is not None:
            return f"its attribute {attribute.name!r} {fault}"
    return None if rules is None else _fault_against(node, rules, names)


def _fault_of_attribute(attribute: AttributeProto, rules: _Rules | None, in_function: bool) -> str | None:
    kind = attribute.type
    expected = kind if rules is None else rules.types.get(attribute.name, kind)
    if kind != expected:
        return f"is of type {_name_of(kind)}, not {_name_of(expected)}"
    if not attribute.ref_attr_name:
        field = _FIELD_OF.get(kind)
        return None if field is None or attribute.HasField(field) else f"has no value of its type, {_name_of(kind)}"
    if not in_function:
        return "refers to that of a function, in none"
    return "refers to a graph of the function's caller, which nothing can follow" if kind in _GRAPHS else None


def _fault_against(node: onnx.NodeProto, rules: _Rules, names: Iterable[str]) -> str | None:
    inputs = list(node.input)
    for what, count, (least, most) in (
        ("inputs", len(inputs), rules.inputs),
        ("outputs", len(node.output), rules.outputs),
    ):
        if not least <= count <= most:
            return f"it has {count} {what}, and its operator {least} to {most}"
    if "" in inputs and any(single and not name for single, name in zip(rules.single, inputs, strict=False)):
        return "an input that must be there is left out"
    missing = [name for name in rules.required if name not in names]
    return f"it has no attribute {missing[0]!r}" if missing else None


def _name_of(kind: int) -> str:
    return AttributeProto.AttributeType.Name(kind) if kind in AttributeProto.AttributeType.values() else str(kind)


@lru_cache(maxsize=4096)
def _rules_of(op_type: str, domain: str, version: int) -> _Rules | None:
    if not version or not onnx.defs.has(op_type, domain):
        return None
    try:
        schema = onnx.defs.get_schema(op_type, version, domain)
    except onnx.defs.SchemaError:  # it is newer than the operator set
        return None
    attributes = schema.attributes.values()
    kinds = AttributeProto.AttributeType
    types = {attribute.name: kinds.Value(attribute.type.name) for attribute in attributes}  # type: ignore[attr-defined]
    return _Rules(
        (schema.min_input, schema.max_input),
        (schema.min_output, schema.max_output),
        tuple(formal.option == _SINGLE for formal in schema.inputs),
        types,
        tuple(attribute.name for attribute in attributes if attribute.required),
    )
