"""Elementwise nodes with nothing before them to be computed along with."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from graphpress.backends.tvm.kernels.map import Map
from graphpress.backends.tvm.lowering.chain import CLAMPS, limits_of
from graphpress.backends.tvm.lowering.context import Lowering, StoredValue, shape_of
from graphpress.backends.tvm.lowering.epilogue import Epilogue
from graphpress.backends.tvm.lowering.fusion import apply, codes_behind, combine, finish
from graphpress.backends.tvm.lowering.operators import (
    BINARY,
    CHOICE,
    COMPARISONS,
    EXACT,
    PREDICATES,
    UNARY,
    VectorFunction,
    affine_of,
    function_of,
    other_operands,
)
from graphpress.backends.tvm.lowering.refusal import refused
from graphpress.backends.tvm.lowering.rules.rule import Rule
from graphpress.backends.tvm.lowering.spreading import spread_operand, spread_whole
from graphpress.ir import DataType, Node, is_constant


def _unary(node: Node, lowering: Lowering) -> None:
    """A function or a clamp."""
    clamps = node.op_type in CLAMPS and node.outputs[0].dtype is DataType.FLOAT and limits_of(node) is not None
    if not clamps and function_of(node) is None and affine_of(node) is None:
        raise refused(node, "there is no function for its numbers, or for parameters that are computed at run time")
    source = lowering.read(node, 0)
    epilogue = Epilogue(unit=source.unit)
    apply(epilogue, lowering, node, source.order)
    _emit_map(node, lowering, source, epilogue)


def _several(node: Node, lowering: Lowering) -> None:
    """A function of operands that were all there before: stages on one of them, which is as large as the result."""
    operands = [index for index, value in enumerate(node.inputs) if value is not None and not is_constant(value)]
    if not operands or not other_operands(node, operands[0]):
        raise refused(node, "it has more than two operands, none, or such as float32 does not hold")
    shape = shape_of(node.outputs[0])
    whole = [index for index in operands if _has_shape(node, index, shape)]
    index = 0 if node.op_type == "PRelu" else (whole or operands)[0]
    source = lowering.read(node, index)
    if index not in whole:
        source = spread_whole(lowering, source, shape)
    epilogue = Epilogue(unit=source.unit)
    order, indices = source.order, other_operands(node, index)
    others = {other: spread_operand(lowering, node, other, shape, order) for other in indices}
    combine(epilogue, node, others, (source.codes, codes_behind(lowering, node)))
    _emit_map(node, lowering, source, epilogue)


def _cast(node: Node, lowering: Lowering) -> None:
    """Numbers and truth values as floats, each as it is; numbers as truth values, and floats in half precision."""
    value, result = node.inputs[0], node.outputs[0]
    assert value is not None
    of_integers = value.dtype in EXACT or value.dtype in (DataType.INT32, DataType.INT64)
    if result.dtype is not DataType.FLOAT and not (
        (result.dtype is DataType.BOOL and of_integers) or (result.dtype is DataType.FLOAT16 and value.dtype in EXACT)
    ):
        raise refused(node, f"it makes {result.dtype} of {value.dtype}")
    source = lowering.read(node, 0)
    epilogue = Epilogue(unit=source.unit)
    if result.dtype is DataType.BOOL:
        epilogue.activate(VectorFunction("is_nonzero"))
    _emit_map(node, lowering, source, epilogue)


def _has_shape(node: Node, index: int, shape: tuple[int, ...]) -> bool:
    value = node.inputs[index]
    return value is not None and shape_of(value) == shape


def _emit_map(node: Node, lowering: Lowering, source: StoredValue, epilogue: Epilogue) -> None:
    target = finish(lowering, node, source.order, epilogue)
    kernel = Map(source.plane, target.store, source.plane.channels, tuple(epilogue.stages), source.zero_point)
    operands = {"source": source.memory, **epilogue.operands, "result": target.operand.memory}
    lowering.emit(kernel, operands, target.nodes, source.images)


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "Cast": _cast,
        **dict.fromkeys((*BINARY, *COMPARISONS, CHOICE), _several),
        **dict.fromkeys((*CLAMPS, *UNARY, *PREDICATES, "BatchNormalization", "Gelu", "Pow"), _unary),
    }
)
"""Rules by operator."""
