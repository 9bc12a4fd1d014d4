"""Pools over windows and over whole images."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from graphpress.backends.tvm.kernels.pool import AveragePool, GlobalAveragePool, MaxPool
from graphpress.backends.tvm.lowering.context import Lowering, shape_of
from graphpress.backends.tvm.lowering.epilogue import Epilogue
from graphpress.backends.tvm.lowering.fusion import finish
from graphpress.backends.tvm.lowering.layout import channels_last
from graphpress.backends.tvm.lowering.refusal import refused
from graphpress.backends.tvm.lowering.rules.reduction import reduce_axes
from graphpress.backends.tvm.lowering.rules.rule import Rule
from graphpress.backends.tvm.lowering.windows import window_of
from graphpress.ir import Node, NodeView
from graphpress.ir.encoding import read_encoding

RANK = 4
"""Axes of a value that is images of rows and pixels."""


def _max_pool(node: Node, lowering: Lowering) -> None:
    """In codes where it reads some, of which it makes none that were not there; else in floats."""
    result = node.outputs[0]
    if any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
        raise refused(node, "the places of its results are read")
    order, encoding = channels_last(len(shape_of(result))), read_encoding(node, 0)
    source = lowering.read(node, 0, order)
    window = window_of(node, source.plane)
    target = lowering.room(result, encoding, order)
    kernel = MaxPool(source.plane, target.plane, window)
    lowering.emit(kernel, {"source": source.memory, "result": target.memory}, [node.name or ""], source.images)


def _average_pool(node: Node, lowering: Lowering) -> None:
    source = lowering.read(node, 0, channels_last(len(shape_of(node.outputs[0]))))
    epilogue = Epilogue(unit=source.unit)
    window, counts = window_of(node, source.plane), NodeView.of(node).flag("count_include_pad")
    target = finish(lowering, node, source.order, epilogue)
    kernel = AveragePool(source.plane, target.store, window, source.zero_point, counts, tuple(epilogue.stages))
    operands = {"source": source.memory, **epilogue.operands, "result": target.operand.memory}
    lowering.emit(kernel, operands, target.nodes, source.images)


def _global_average_pool(node: Node, lowering: Lowering) -> None:
    if (rank := len(shape_of(node.outputs[0]))) != RANK:
        reduce_axes(node, lowering)
        return
    source = lowering.read(node, 0, channels_last(rank))
    epilogue = Epilogue(unit=source.unit, summed=source.plane.height * source.plane.width)
    target = finish(lowering, node, source.order, epilogue)
    kernel = GlobalAveragePool(source.plane, target.store, source.zero_point, tuple(epilogue.stages))
    operands = {"source": source.memory, **epilogue.operands, "result": target.operand.memory}
    lowering.emit(kernel, operands, target.nodes, source.images)


RULES: Mapping[str, Rule] = MappingProxyType(
    {"AveragePool": _average_pool, "GlobalAveragePool": _global_average_pool, "MaxPool": _max_pool}
)
"""Rules by operator."""
