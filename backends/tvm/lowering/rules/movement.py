"""Nodes that move data and compute nothing: as other views of the same memory where that can be, else as one copy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from graphpress.backends.tvm.kernels.strided import strided_copy
from graphpress.backends.tvm.lowering.context import Lowering, shape_of
from graphpress.backends.tvm.lowering.epilogue import Epilogue
from graphpress.backends.tvm.lowering.layout import natural, reshaped, reshaped_plane, transposed
from graphpress.backends.tvm.lowering.operands import spread
from graphpress.backends.tvm.lowering.rules.rule import Rule
from graphpress.ir import Node, NodeView


def _transpose(node: Node, lowering: Lowering) -> None:
    """Nothing moves: the same memory, its axes in another order."""
    result = node.outputs[0]
    rank = len(shape_of(result))
    permutation = NodeView.of(node).integers("perm") or tuple(reversed(range(rank)))
    source, encoding = lowering.moved(node)
    order = transposed(source.order, permutation)
    lowering.bind(result, encoding, order, source.memory, source.plane)


def _reshape(node: Node, lowering: Lowering) -> None:
    """The same memory where no axis lies otherwise in it; else a copy without gaps comes before."""
    result = node.outputs[0]
    (source, encoding), after = lowering.moved(node), shape_of(result)
    if (order := reshaped(source.shape, source.order, source.plane, after)) is None:
        source, order = lowering.without_gaps(source, source.codes), natural(len(after))
    plane = reshaped_plane(source.plane, after, order)
    lowering.bind(result, encoding, order, source.memory, plane)


def _concat(node: Node, lowering: Lowering) -> None:
    """Each part is copied to where it begins."""
    result = node.outputs[0]
    axis = NodeView.of(node).axis(0, len(shape_of(result)))
    rest = lowering.read(node, 0).order
    order = (*(other for other in rest if other != axis), axis) if axis else rest
    target = lowering.room(result, lowering.wanted(result), order)
    first = 0
    for index in range(len(node.inputs)):
        source = lowering.read(node, index)
        epilogue = Epilogue(unit=source.unit)
        epilogue.into(target.unit)
        part = replace(target.view, start=target.view.start + first * target.view.steps[axis])
        kernel = strided_copy(source.shape, source.view, part, epilogue.stages)
        lowering.emit(kernel, {"source": source.memory, "result": target.memory}, [node.name or ""])
        first += source.shape[axis]


def _expand(node: Node, lowering: Lowering) -> None:
    """The same elements again and again."""
    result = node.outputs[0]
    source = lowering.read(node, 0)
    target = lowering.room(result, lowering.wanted(result), natural(len(shape_of(result))))
    epilogue = Epilogue(unit=source.unit)
    epilogue.into(target.unit)
    kernel = strided_copy(target.shape, spread(source, target.shape), target.view, epilogue.stages)
    lowering.emit(kernel, {"source": source.memory, "result": target.memory}, [node.name or ""])


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "Concat": _concat,
        "Expand": _expand,
        "Transpose": _transpose,
        **dict.fromkeys(("Flatten", "Reshape", "Squeeze", "Unsqueeze"), _reshape),
    }
)
"""Rules by operator."""
