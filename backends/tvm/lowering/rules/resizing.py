"""Resize and Upsample, and Pad by what is there: rows and pixels at other places, by tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from graphpress.backends.tvm.kernels.resample import TABLES, WEIGHTS, Resample
from graphpress.backends.tvm.lowering.context import Lowering, shape_of
from graphpress.backends.tvm.lowering.epilogue import Epilogue
from graphpress.backends.tvm.lowering.fusion import finish
from graphpress.backends.tvm.lowering.interpolation import TapTable, taps_of
from graphpress.backends.tvm.lowering.layout import channels_last
from graphpress.backends.tvm.lowering.refusal import refused
from graphpress.backends.tvm.lowering.rules.rule import Rule
from graphpress.backends.tvm.program import Constant
from graphpress.ir import Node, NodeView
from graphpress.ops.semantics.resize import ResizeAttributes, resized

PLANE_RANKS = (3, 4)
"""Axes of values whose images are planes or lines."""
SIZES = 3
"""Input that holds the sizes asked for."""


def _resize(node: Node, lowering: Lowering) -> None:
    """Raises UnsupportedError: images or channels are resized, or there is no table of a few taps."""
    value = node.inputs[0]
    assert value is not None
    before, after = shape_of(value), shape_of(node.outputs[0])
    view = NodeView.of(node)
    factors, attributes = _factors(view, before, after), ResizeAttributes.of(view)
    if factors is None or len(before) not in PLANE_RANKS or before[:2] != after[:2]:
        raise refused(node, "it resizes other axes than rows and pixels, or by what is computed at run time")
    axes = zip(before[2:], after[2:], factors[2:], strict=True)
    tables = [taps_of(attributes, size, results, factor) for size, results, factor in axes]
    known = [_trimmed(table) for table in tables if table is not None]
    if len(known) < len(tables):
        raise refused(node, f"there is no table of {attributes.mode} taps for {attributes.coordinates}")
    emit_resample(node, lowering, known)


def _factors(view: NodeView, before: Sequence[int], after: Sequence[int]) -> list[float] | None:
    """By which each axis grows; None where that is computed at run time."""
    place = 1 if view.op_type == "Upsample" else 2
    given = view.numbers("scales")
    scales = np.array(given) if given is not None else view.constant(place)
    axes = [axis % len(before) for axis in view.integers("axes") or range(len(before))]
    factors = [1.0] * len(before)
    if scales is not None and scales.size:
        chosen = [float(np.float32(factor)) for factor in scales]
    elif (sizes := view.constant(SIZES)) is not None:
        aspect = view.text("keep_aspect_ratio_policy", "stretch")
        _, chosen = resized([int(size) for size in sizes], [before[axis] for axis in axes], aspect)
    else:
        return None
    for axis, factor in zip(axes, chosen, strict=True):
        factors[axis] = factor
    return factors


def _trimmed(table: TapTable) -> TapTable:
    """Without taps that have no weight anywhere."""
    weighted = np.flatnonzero(np.any(table.weights != 0, axis=0))
    return TapTable(table.places[:, weighted], table.weights[:, weighted])


def emit_resample(node: Node, lowering: Lowering, tables: Sequence[TapTable]) -> None:
    """Rows and pixels of the node's first input by tables; lines are rows that stay."""
    source = lowering.read(node, 0, channels_last(len(shape_of(node.outputs[0]))))
    lines = np.arange(source.plane.height, dtype=np.int32)[:, None]
    rows, columns = [TapTable(lines, np.ones(lines.shape, np.float32)), *tables][-2:]
    epilogue = Epilogue(unit=source.unit)
    target = finish(lowering, node, source.order, epilogue)
    taps = rows.places.shape[1], columns.places.shape[1]
    kernel = Resample(source.plane, target.store, taps, tuple(epilogue.stages), source.zero_point)
    operands = {"source": source.memory, **epilogue.operands, "result": target.operand.memory}
    operands |= dict(zip(TABLES, (Constant(table.places) for table in (rows, columns)), strict=True))
    if kernel.weighted:
        operands |= dict(zip(WEIGHTS, (Constant(table.weights) for table in (rows, columns)), strict=True))
    lowering.emit(kernel, operands, target.nodes, source.images)


RULES: Mapping[str, Rule] = MappingProxyType({"Resize": _resize, "Upsample": _resize})
"""Rules by operator."""
