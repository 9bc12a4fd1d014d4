"""Elementwise nodes with nothing before them to be computed along with."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from graphpress.backends.tvm.kernels.map import Map
from graphpress.backends.tvm.lowering.chain import CLAMPS, limits_of
from graphpress.backends.tvm.lowering.context import Lowering, StoredValue, shape_of
from graphpress.backends.tvm.lowering.epilogue import Epilogue
from graphpress.backends.tvm.lowering.fusion import apply, codes_behind, combine, finish
from graphpress.backends.tvm.lowering.operators import BINARY, UNARY, affine_of, binary_of, function_of
from graphpress.backends.tvm.lowering.refusal import refused
from graphpress.backends.tvm.lowering.rules.rule import Rule
from graphpress.backends.tvm.lowering.spreading import spread_operand
from graphpress.ir import DataType, Node, Value, is_constant


def _unary(node: Node, lowering: Lowering) -> None:
    """A function or a clamp."""
    if node.outputs[0].dtype is not DataType.FLOAT:
        raise refused(node, "its numbers are no floats")
    known = function_of(node) is not None or affine_of(node) is not None
    if not known and (node.op_type not in CLAMPS or limits_of(node) is None):
        raise refused(node, "its parameters are computed at run time, or there is no function for them")
    source = lowering.read(node, 0)
    epilogue = Epilogue(unit=source.unit)
    apply(epilogue, lowering, node, source.order)
    _emit_map(node, lowering, source, epilogue)


def _binary(node: Node, lowering: Lowering) -> None:
    """A function of two operands that were both there before, one of them as large as the result."""
    if binary_of(node) is None:
        raise refused(node, "it has not two operands, or they are no floats")
    whole = [index for index, value in enumerate(node.inputs) if _is_whole(node, value)]
    if not whole or (node.op_type == "PRelu" and 0 not in whole):
        raise refused(node, "both operands are spread over each other")
    source = lowering.read(node, whole[0])
    epilogue = Epilogue(unit=source.unit)
    index, grids = 1 - whole[0], (source.codes, codes_behind(lowering, node))
    combine(epilogue, node, index, spread_operand(lowering, node, index, source.shape, source.order), grids)
    _emit_map(node, lowering, source, epilogue)


def _cast(node: Node, lowering: Lowering) -> None:
    """Integers and truth values as floats, each as it is."""
    if node.outputs[0].dtype is not DataType.FLOAT:
        raise refused(node, "its results are no floats")
    source = lowering.read(node, 0)
    _emit_map(node, lowering, source, Epilogue(unit=source.unit))


def _is_whole(node: Node, value: Value | None) -> bool:
    """Whether an operand is an activation as large as the result."""
    return value is not None and not is_constant(value) and shape_of(value) == shape_of(node.outputs[0])


def _emit_map(node: Node, lowering: Lowering, source: StoredValue, epilogue: Epilogue) -> None:
    target = finish(lowering, node, source.order, epilogue)
    kernel = Map(source.plane, target.store, source.plane.channels, tuple(epilogue.stages), source.zero_point)
    operands = {"source": source.memory, **epilogue.operands, "result": target.operand.memory}
    lowering.emit(kernel, operands, target.nodes, source.images)


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "Cast": _cast,
        **dict.fromkeys(BINARY, _binary),
        **dict.fromkeys((*CLAMPS, *UNARY, "BatchNormalization", "Gelu", "Pow"), _unary),
    }
)
"""Rules by operator."""
