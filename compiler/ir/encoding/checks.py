"""Whether the encodings of a model are sound and fit what carries them: values, uses, constants held as codes."""

from __future__ import annotations

from collections.abc import Iterator

from graphpress.ir.encoding.annotations import encoding_of, overrides_of
from graphpress.ir.encoding.encoded_tensor import EncodedTensor
from graphpress.ir.encoding.kinds import Encoding
from graphpress.ir.encoding.requests import FLOAT_TYPES, float_type
from graphpress.ir.types import Model, Node, TensorProtocol, Value
from graphpress.ir.values import dims_of, graphs, label, values_of


def encoding_problems(model: Model) -> list[str]:
    """Every annotation that is unsound or does not fit, with the reason; empty when all is well."""
    problems: list[str] = []
    for graph in graphs(model):  # of which nearly every value and node says nothing
        for value in values_of(graph):
            encoding, tensor = encoding_of(value), value.const_value
            if encoding is not None or tensor is not None:
                problems += _value_problems(value, encoding, tensor)
        for node in graph:
            if overrides_of(node) or float_type(node) is not None:
                problems += _node_problems(node)
    return problems


def _value_problems(value: Value, encoding: Encoding | None, tensor: TensorProtocol | None) -> Iterator[str]:
    if encoding is not None and (why := _misreading(encoding, value)):
        yield f"the encoding of {label(value)} {why}"
    if isinstance(tensor, EncodedTensor) and tensor.fault is not None:
        yield f"the constant {label(value)} {tensor.fault}"


def _node_problems(node: Node) -> Iterator[str]:
    for index, override in overrides_of(node).items():
        value = node.inputs[index] if 0 <= index < len(node.inputs) else None
        if value is None:
            yield f"{label(node)} overrides the encoding of input {index}, which it does not have"
        elif not isinstance(override, str) and (why := _misreading(override, value)):
            yield f"the encoding in which {label(node)} reads {label(value)} {why}"
    if (asked := float_type(node)) not in (None, *FLOAT_TYPES):
        yield f"{label(node)} is asked for the unknown float type {asked!r}"


def _misreading(encoding: Encoding, value: Value) -> str | None:
    """Why the value cannot be read in the encoding."""
    if encoding.fault is not None:
        return encoding.fault
    if value.dtype is not None and not value.dtype.is_floating_point():
        return f"is on numbers of type {value.dtype}"
    dims = dims_of(value)
    return None if dims is None else encoding.misfit(dims)
