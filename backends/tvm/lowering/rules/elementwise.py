"""Elementwise nodes with nothing before them to be computed along with."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from graphpress.backends.tvm.kernels.map import Map
from graphpress.backends.tvm.lowering.chain import FUNCTIONS, limits_of
from graphpress.backends.tvm.lowering.context import Lowering, StoredValue, shape_of
from graphpress.backends.tvm.lowering.epilogue import Epilogue
from graphpress.backends.tvm.lowering.fusion import add, codes_behind, finish
from graphpress.backends.tvm.lowering.refusal import refused
from graphpress.backends.tvm.lowering.rules.rule import Rule
from graphpress.ir import Node, is_constant


def _elementwise(node: Node, lowering: Lowering) -> None:
    """A function or a clamp."""
    limits = (None, None) if node.op_type in FUNCTIONS else limits_of(node)
    if limits is None:
        raise refused(node, "its limits are computed at run time")
    source = lowering.read(node, 0)
    epilogue = Epilogue(unit=source.unit)
    if node.op_type in FUNCTIONS:
        epilogue.activate(FUNCTIONS[node.op_type])
    else:
        epilogue.clip(*limits)
    _emit_map(node, lowering, source, epilogue)


def _add(node: Node, lowering: Lowering) -> None:
    """A sum of two activations that were both there before."""
    first, second = node.inputs
    assert first is not None
    assert second is not None
    if any(is_constant(value) for value in (first, second)) or shape_of(first) != shape_of(second):
        raise refused(node, "it adds a constant, or spreads one operand over the other")
    source = lowering.read(node, 0)
    epilogue = Epilogue(unit=source.unit)
    other = lowering.read(node, 1, source.order)
    add(epilogue, other, source.codes, codes_behind(lowering, node), index=1)
    _emit_map(node, lowering, source, epilogue)


def _emit_map(node: Node, lowering: Lowering, source: StoredValue, epilogue: Epilogue) -> None:
    target = finish(lowering, node, source.order, epilogue)
    kernel = Map(source.plane, target.store, source.plane.channels, tuple(epilogue.stages), source.zero_point)
    operands = {"source": source.memory, **epilogue.operands, "result": target.operand.memory}
    lowering.emit(kernel, operands, target.nodes, source.images)


RULES: Mapping[str, Rule] = MappingProxyType({"Add": _add, **dict.fromkeys(("Clip", "Relu", *FUNCTIONS), _elementwise)})
"""Rules by operator."""
