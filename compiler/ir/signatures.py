"""Which inputs and outputs of a node carry one type, by the schemas of ONNX.

A formal parameter of an operator is typed by a variable (``T``), with the types that it may take, or by one type.
What a node computes in follows: all its inputs and outputs under one variable change type together, and those
under another (the scales of a Resize, the indices of a Gather) do not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

import onnx.defs

from graphpress.ir.types import DataType, Graph, Model, Node, TensorType, Value
from graphpress.ir.values import constant, graphs, int_attribute, is_standard, label, opset_of, subgraphs_of

TypeOf = Callable[[Value], DataType | None]
"""The element type of a value; None for one that is unknown or no tensor."""

_SETTINGS: Final = {"Dropout": ("ratio",), "Resize": ("roi",)}
"""Inputs that control the computation instead of being data: a coarser type would gain nothing."""


class Parameter(NamedTuple):
    """A formal parameter: its name, and the variable (or single type) that types it."""

    name: str
    variable: str


@dataclass(frozen=True)
class Signature:
    """The types in the schema of an operator.

    Args:
        inputs: formal inputs in order.
        outputs: formal outputs in order.
        types: the types that each variable may take, by its name, in ONNX's form: ``tensor(float16)``.
    """

    inputs: tuple[Parameter, ...]
    outputs: tuple[Parameter, ...]
    types: dict[str, frozenset[str]]

    def allows(self, variable: str, dtype: DataType) -> bool:
        """Whether a variable may take tensors of a type."""
        return _onnx_name(dtype) in self.types.get(variable, {variable})

    @property
    def is_of_tensors(self) -> bool:
        """Whether everything that it reads and makes can be a tensor."""
        variables = (formal.variable for formal in (*self.inputs, *self.outputs))
        return all(
            any(kind.startswith("tensor(") for kind in self.types.get(variable, {variable})) for variable in variables
        )


class Unable(NamedTuple):
    """Why a node cannot compute in a type, and from which operator set on its operator can (0: from none)."""

    why: str
    opset: int = 0


@dataclass(frozen=True)
class Slots:
    """Positions of the inputs and outputs of a node that take another float type together."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def float_slots(node: Node, dtype: DataType, type_of: TypeOf) -> Slots | Unable:
    """Where ``node``, which is in float32, would carry ``dtype`` if it computed in that; else why it cannot.

    Args:
        node: any.
        dtype: another float type.
        type_of: the types of values as they are now.
    """
    signature = signature_of(node)
    if signature is None:
        return Unable("its operator is not of the ONNX standard")
    if next(subgraphs_of(node), None) is not None:
        return Unable("it holds subgraphs, whose nodes have types of their own")
    inputs = _float32(node.inputs, signature.inputs, type_of)
    outputs = _float32(node.outputs, signature.outputs, type_of)
    if not inputs and not outputs:
        return Unable("it does not compute in float32")
    if not signature.is_of_tensors:
        return Unable("it handles sequences, whose elements keep their type")
    if (unknown := _unknown(node, signature, {formal.variable for _, formal in inputs}, type_of)) is not None:
        return Unable(f"the type of {label(unknown)} is not known")
    settings = _SETTINGS.get(node.op_type, ())
    variables = {formal.variable for _, formal in inputs if formal.name not in settings}
    variables |= {formal.variable for _, formal in outputs if _follows(node, variables)}
    able = {variable for variable in variables if signature.allows(variable, dtype)}
    if not able:
        return _too_old(node, variables, dtype)
    return Slots(
        tuple(index for index, formal in inputs if formal.variable in able and formal.name not in settings),
        tuple(index for index, formal in outputs if formal.variable in able),
    )


def reads_any_type(node: Node, index: int, dtype: DataType, type_of: TypeOf) -> bool:
    """Whether the node could read this input in ``dtype`` instead, and all else would stay as it is.

    So it is with Shape, Cast and ArgMax: one float input, on whose type nothing else depends.
    """
    signature = signature_of(node)
    if signature is None or next(subgraphs_of(node), None) is not None:
        return False
    formal = _formal(signature.inputs, index)
    if formal is None or not signature.allows(formal.variable, dtype):
        return False
    shared = any(other.variable == formal.variable for other in signature.outputs)
    return not shared and len(_float32(node.inputs, signature.inputs, type_of)) == 1


def known_types(model: Model) -> dict[Value, DataType]:
    """The element type of every tensor whose type is declared, or follows from the schemas of the nodes before it."""
    types: dict[Value, DataType] = {}
    for graph in graphs(model):
        values = [*graph.inputs, *(graph.initializers.values() if isinstance(graph, Graph) else ())]
        types |= {value: dtype for value in values if (dtype := _declared(value)) is not None}
        for node in graph:
            for index, output in enumerate(node.outputs):
                dtype = _declared(output)
                dtype = _inferred(node, index, types) if dtype is None and output.type is None else dtype
                if dtype is not None:
                    types[output] = dtype
    return types


def signature_of(node: Node) -> Signature | None:
    """The signature of a standard operator at the node's operator set, None for any other node."""
    opset = opset_of(node)
    return _signature(node.op_type, opset) if is_standard(node) and opset is not None else None


@lru_cache(maxsize=1024)
def _signature(op_type: str, opset: int) -> Signature | None:
    try:
        schema = onnx.defs.get_schema(op_type, opset)
    except onnx.defs.SchemaError:
        return None
    return Signature(
        tuple(Parameter(formal.name, formal.type_str) for formal in schema.inputs),
        tuple(Parameter(formal.name, formal.type_str) for formal in schema.outputs),
        {formal.type_param_str: frozenset(formal.allowed_type_strs) for formal in schema.type_constraints},
    )


def _formal(formals: tuple[Parameter, ...], index: int) -> Parameter | None:
    """The parameter at a position; the last one of a variadic operator covers all that follow."""
    return formals[min(index, len(formals) - 1)] if formals else None


def _float32(
    values: Sequence[Value | None], formals: tuple[Parameter, ...], type_of: TypeOf
) -> list[tuple[int, Parameter]]:
    return [
        (index, formal)
        for index, value in enumerate(values)
        if value is not None and type_of(value) == DataType.FLOAT and (formal := _formal(formals, index)) is not None
    ]


def _too_old(node: Node, variables: set[str], dtype: DataType) -> Unable:
    """That the operator does not take a type, and from which operator set on it does."""
    opset = opset_of(node) or 0
    text = f"the operator does not take {dtype.name.lower()} at opset {opset}"
    for newer in range(opset + 1, onnx.defs.onnx_opset_version() + 1):
        signature = _signature(node.op_type, newer)
        if signature is not None and any(signature.allows(variable, dtype) for variable in variables):
            return Unable(f"{text}, but from {newer} on", newer)
    return Unable(text)


def _unknown(node: Node, signature: Signature, variables: set[str], type_of: TypeOf) -> Value | None:
    """An input whose type is not known, but is that of another which is float32."""
    for index, value in enumerate(node.inputs):
        formal = _formal(signature.inputs, index)
        if value is not None and formal is not None and formal.variable in variables and type_of(value) is None:
            return value
    return None


def _follows(node: Node, variables: set[str]) -> bool:
    """Whether what types the results alone can be made to follow: the type that a Cast names, that of a scale."""
    if node.op_type == "DequantizeLinear":
        return bool(variables) and not int_attribute(node, "output_dtype", 0)
    return node.op_type == "Cast"


def _inferred(node: Node, index: int, types: dict[Value, DataType]) -> DataType | None:
    signature = signature_of(node)
    formal = None if signature is None else _formal(signature.outputs, index)
    if signature is None or formal is None or next(subgraphs_of(node), None) is not None:
        return None
    if node.op_type in ("Cast", "DequantizeLinear"):
        named = int_attribute(node, "to" if node.op_type == "Cast" else "output_dtype", 0)
        return DataType(named) if named else _type_under(node, signature, signature.inputs[1].variable, types)
    if formal.variable in signature.types:
        return _type_under(node, signature, formal.variable, types)
    return next((dtype for dtype in DataType if _onnx_name(dtype) == formal.variable), None)


def _type_under(node: Node, signature: Signature, variable: str, types: dict[Value, DataType]) -> DataType | None:
    for position, value in enumerate(node.inputs):
        formal = _formal(signature.inputs, position)
        if value is not None and formal is not None and formal.variable == variable and value in types:
            return types[value]
    return None


def _declared(value: Value) -> DataType | None:
    if value.const_value is not None and value.is_initializer():
        return value.const_value.dtype
    if value.type is None and (array := constant(value)) is not None and array.dtype != object:
        return DataType.from_numpy(array.dtype)
    return value.dtype if isinstance(value.type, TensorType) else None


def _onnx_name(dtype: DataType) -> str:
    return f"tensor({dtype.name.lower()})"
