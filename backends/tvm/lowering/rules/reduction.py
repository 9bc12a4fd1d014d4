"""Reductions, over whichever axes, and pools over whole images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

from graphpress.backends.tvm.codegen.extent import Extent
from graphpress.backends.tvm.codegen.vectors import FLOAT
from graphpress.backends.tvm.kernels.reduce import Reduce
from graphpress.backends.tvm.kernels.stages import Destination, DivideByExtent
from graphpress.backends.tvm.lowering.context import Lowering, StoredValue, shape_of
from graphpress.backends.tvm.lowering.epilogue import Epilogue
from graphpress.backends.tvm.lowering.fusion import finish
from graphpress.backends.tvm.lowering.layout import (
    PLANE_AXES,
    Order,
    channels_last,
    images_of,
    natural,
    plane_of,
    reshaped,
    reshaped_plane,
)
from graphpress.backends.tvm.lowering.operands import copied, floats_of
from graphpress.backends.tvm.lowering.operators import VectorFunction
from graphpress.backends.tvm.lowering.refusal import refused
from graphpress.backends.tvm.lowering.rules.rule import Rule
from graphpress.backends.tvm.program import Buffer, CallerTensor
from graphpress.ir import DataType, Node, NodeView, Value
from graphpress.ops.semantics.axes import reduced_axes


class ReductionRule(NamedTuple):
    """What an operator reduces by.

    Args:
        fold: a key of ``FOLDS``.
        linear: whether codes may be reduced as they are: their scale passes.
        mean: whether the sum is divided by how many numbers there were.
        then: a function of the result.
    """

    fold: str
    linear: bool = True
    mean: bool = False
    then: str = ""


REDUCTIONS: Mapping[str, ReductionRule] = MappingProxyType(
    {
        "GlobalAveragePool": ReductionRule("sum", mean=True),
        "GlobalMaxPool": ReductionRule("max"),
        "ReduceL1": ReductionRule("sum_of_magnitudes"),
        "ReduceL2": ReductionRule("sum_of_squares", linear=False, then="sqrt"),
        "ReduceLogSum": ReductionRule("sum", then="log"),
        "ReduceMax": ReductionRule("max"),
        "ReduceMean": ReductionRule("sum", mean=True),
        "ReduceMin": ReductionRule("min"),
        "ReduceProd": ReductionRule("product", linear=False),
        "ReduceSum": ReductionRule("sum"),
        "ReduceSumSquare": ReductionRule("sum_of_squares", linear=False),
    }
)
"""Reductions by operator."""


def reduce_axes(node: Node, lowering: Lowering) -> None:
    """Raises UnsupportedError: the axes are not known, or cannot lie in one plane."""
    value, view = node.inputs[0], NodeView.of(node)
    assert value is not None
    shape, reduction = shape_of(value), REDUCTIONS[node.op_type]
    if value.dtype is not DataType.FLOAT:
        raise refused(node, "its numbers are no floats")
    axes = frozenset(_axes(node, view, len(shape)))
    order = _order(lowering.read(node, 0).order, shape, axes)
    if order is None or not axes:
        raise refused(node, "its axes cannot lie in one plane, or there are none")
    count = math.prod(shape[axis] for axis in axes) if reduction.mean else 1
    in_codes = reduction.linear and not isinstance(count, Extent)
    source = lowering.read(node, 0, order) if in_codes else floats_of(lowering, node, 0, order)
    source = _whole(lowering, source)
    epilogue = Epilogue(unit=source.unit, summed=1 if isinstance(count, Extent) else count)
    if isinstance(count, Extent):
        epilogue.stages.append(DivideByExtent(count))
    if reduction.then:
        epilogue.activate(VectorFunction(reduction.then))
    _emit(node, lowering, source, axes, epilogue)


def _axes(node: Node, view: NodeView, rank: int) -> Sequence[int]:
    if node.op_type.startswith("Global"):
        return range(2, rank)
    if view.has(1) and view.constant(1) is None:
        raise refused(node, "its axes are computed at run time")
    return reduced_axes(view, view.integers("axes", 1), rank)


def _order(given: Order, shape: tuple[int, ...], axes: frozenset[int]) -> Order | None:
    """An order in which no axis before rows, pixels and channels is reduced; that which is there, if it is one."""
    kept = [axis for axis in given if axis not in axes]
    orders = (given, channels_last(len(shape)), (*kept, *(axis for axis in given if axis in axes)))
    fits = (order for order in orders if not axes & {axis for axis in order[:-PLANE_AXES] if shape[axis] > 1})
    return next(fits, None)


def _whole(lowering: Lowering, source: StoredValue) -> StoredValue:
    """A value that may be read to the end of the last vector."""
    if not isinstance(source.memory, CallerTensor) or source.plane.channels % lowering.isa.lanes == 0:
        return source
    return copied(lowering, source, source.order)


def _emit(node: Node, lowering: Lowering, source: StoredValue, axes: frozenset[int], epilogue: Epilogue) -> None:
    result, fold = node.outputs[0], REDUCTIONS[node.op_type].fold
    kept = tuple(1 if axis in axes else extent for axis, extent in enumerate(source.shape))
    if shape_of(result) == kept:
        target = finish(lowering, node, source.order, epilogue)
        operand, nodes = target.operand, target.nodes
    else:
        operand, nodes = _beside(lowering, node, source.order, kept), (node.name or "",)
        epilogue.into(operand.unit)
    store = Destination(operand.plane, operand.zero_point)
    inside = [axis in axes for axis in (-1, -1, *source.order)[-PLANE_AXES:]]
    reduced = inside[0], inside[1], inside[2]
    kernel = Reduce(source.plane, store, fold, reduced, tuple(epilogue.stages), source.zero_point)
    operands = {"source": source.memory, **epilogue.operands, "result": operand.memory}
    lowering.emit(kernel, operands, nodes, source.images)
    if shape_of(result) != kept:
        _reshaped(lowering, result, operand)


def _beside(lowering: Lowering, node: Node, order: Order, kept: tuple[int, ...]) -> StoredValue:
    """Room for what the result is before its axes of size 1 are dropped."""
    result = node.outputs[0]
    codes = lowering.codes(result, lowering.wanted(result))
    dtype = FLOAT if codes is None else lowering.isa.dot.activations
    plane = replace(plane_of(kept, order, lowering.isa.lanes), dtype=dtype)
    memory = Buffer(plane, 0 if codes is None else codes.zero_point, result.name or "", images_of(kept, order))
    return StoredValue(memory, codes, order, kept, plane)


def _reshaped(lowering: Lowering, result: Value, operand: StoredValue) -> None:
    """The same memory without the axes of size 1."""
    after = shape_of(result)
    order = reshaped(operand.shape, operand.order, operand.plane, after)
    if order is None:
        operand, order = lowering.without_gaps(operand, operand.codes), natural(len(after))
    plane = reshaped_plane(operand.plane, after, order)
    lowering.bind(result, lowering.wanted(result), order, operand.memory, plane)


RULES: Mapping[str, Rule] = MappingProxyType(
    {operator: reduce_axes for operator in REDUCTIONS if operator != "GlobalAveragePool"}
)
"""Rules by operator; a mean of whole images has a kernel of its own where they are planes."""
