"""Gather: rows of a constant table by numbers that the caller gives, and constant places of an activation as a copy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from graphpress.analysis.linear import as_read
from graphpress.backends.tvm.kernels.gather_rows import GatherRows
from graphpress.backends.tvm.kernels.strided import strided_copy
from graphpress.backends.tvm.lowering.context import Lowering, StoredValue, elements_of, shape_of
from graphpress.backends.tvm.lowering.epilogue import Epilogue
from graphpress.backends.tvm.lowering.fusion import finish
from graphpress.backends.tvm.lowering.layout import natural
from graphpress.backends.tvm.lowering.refusal import refused
from graphpress.backends.tvm.lowering.rules.rule import Rule
from graphpress.backends.tvm.lowering.weight_only import CODES
from graphpress.backends.tvm.program import Constant
from graphpress.ir import Node, NodeView, Value, constant
from graphpress.ir.encoding import AffineEncoding, codes_of, integer_bounds, read_encoding

NUMBERS = ("int32", "int64")


def _gather(node: Node, lowering: Lowering) -> None:
    source, indices = node.inputs[0], node.inputs[1]
    assert source is not None
    assert indices is not None
    axis = NodeView.of(node).axis(0, len(shape_of(source)))
    table, places = constant(source), constant(indices)
    if table is not None and axis == 0 and table.ndim == 2 and table.dtype == np.float32:
        _rows(node, lowering, table, indices)
    elif places is not None and (steps := _progression(places, shape_of(source)[axis])) is not None:
        _places(node, lowering, axis, *steps)
    else:
        raise refused(node, "what it reads is no constant table of rows, or its places are no constant progression")


def _rows(node: Node, lowering: Lowering, table: np.ndarray, indices: Value) -> None:
    """Embeddings."""
    coded = _coded_rows(node, table)
    gather_rows(node, lowering, coded or {"table": as_read(node, 0, table).astype(np.float32)}, indices)


def gather_rows(node: Node, lowering: Lowering, arrays: Mapping[str, np.ndarray], indices: Value) -> None:
    """Rows of a table, and the chain behind them, as one kernel.

    Args:
        node: that reads them.
        lowering: the program.
        arrays: the ``table``, floats or int8, and then ``scales_of_rows``, ``[rows, blocks]``.
        indices: numbers of rows.
    """
    numbers, table = row_numbers(node, lowering, indices), arrays["table"]
    target = finish(lowering, node, natural(len(shape_of(node.outputs[0]))), Epilogue())
    kernel = GatherRows(
        len(table),
        target.store,
        table.dtype.name,
        elements_of(indices),
        stages=tuple(target.epilogue.stages),
        block=table.shape[1] // arrays["scales_of_rows"].shape[1] if "scales_of_rows" in arrays else 0,
    )
    operands = {
        **{name: Constant(array) for name, array in arrays.items()},
        "indices": numbers.memory,
        **target.epilogue.operands,
        "result": target.operand.memory,
    }
    lowering.emit(kernel, operands, target.nodes, target.operand.images)


def _coded_rows(node: Node, table: np.ndarray) -> dict[str, np.ndarray] | None:
    """Codes of a table less their zero-points, int8, and scales ``[rows, blocks]``; None where they are not such."""
    encoding, stored = read_encoding(node, 0), node.inputs[0]
    if not isinstance(encoding, AffineEncoding) or encoding.dtype not in CODES or encoding.is_dynamic:
        return None
    assert stored is not None
    assert stored.const_value is not None
    in_blocks = encoding.block > 0 and encoding.axis in (1, -1) and table.shape[1] % encoding.block == 0
    by_row = not encoding.block and encoding.axis in (0, -2, None)
    if not in_blocks and not by_row:
        return None
    scales, zeros = (
        array if in_blocks else np.broadcast_to(array.reshape(-1, 1), (len(table), 1))
        for array in (encoding.scale, encoding.zero_point)
    )
    return centered_rows(codes_of(stored.const_value, encoding), scales, zeros)


def centered_rows(codes: np.ndarray, scales: np.ndarray, zeros: np.ndarray) -> dict[str, np.ndarray] | None:
    """A table as ``gather_rows`` takes it; None where codes less their zero-points are no int8.

    Args:
        codes: ``[rows, elements]``.
        scales: ``[rows, blocks]``.
        zeros: of the same shape.
    """
    centered = codes.astype(np.int16) - np.repeat(zeros, codes.shape[1] // zeros.shape[1], axis=1)
    low, high = integer_bounds("int8")
    if centered.min(initial=0) < low or centered.max(initial=0) > high:
        return None
    return {"table": centered.astype(np.int8), "scales_of_rows": np.ascontiguousarray(scales, np.float32)}


def row_numbers(node: Node, lowering: Lowering, indices: Value) -> StoredValue:
    """Numbers of rows, as the kernel reads them.

    Raises:
        UnsupportedError: they are no integers, or lie apart.
    """
    numbers = lowering.form(indices, None, natural(len(shape_of(indices))))
    if numbers.plane.dtype not in NUMBERS or not numbers.plane.is_dense:
        raise refused(node, "its indices do not lie one behind the other")
    return numbers


def _progression(places: np.ndarray, extent: int) -> tuple[int, int] | None:
    """First place and step of places in arithmetic progression; None for others."""
    if places.size == 1:
        place = int(places.item())
        return (place + extent if place < 0 else place, 1) if -extent <= place < extent else None
    flat = np.where(places < 0, places + extent, places).reshape(-1)
    steps = np.diff(flat)
    if not flat.size or flat.min() < 0 or flat.max() >= extent or np.any(steps != steps[:1]):
        return None
    return int(flat[0]), int(steps[0]) if steps.size else 1


def _places(node: Node, lowering: Lowering, axis: int, first: int, step: int) -> None:
    """A copy of places that lie evenly."""
    source, result = lowering.read(node, 0), node.outputs[0]
    shape = shape_of(result)
    apart = source.view.steps[axis]
    inner = len(source.shape) - axis - 1
    extents = shape[axis : len(shape) - inner]
    between = (step * apart * math.prod(extents[place + 1 :]) for place in range(len(extents)))
    steps = (*source.view.steps[:axis], *between, *source.view.steps[axis + 1 :])
    view = replace(source.view, start=source.view.start + first * apart, steps=steps)
    target = lowering.room(result, lowering.wanted(result), natural(len(shape)))
    epilogue = Epilogue(unit=source.unit)
    epilogue.into(target.unit)
    kernel = strided_copy(shape, view, target.view, epilogue.stages)
    lowering.emit(kernel, {"source": source.memory, "result": target.memory}, [node.name or ""])


RULES: Mapping[str, Rule] = MappingProxyType({"Gather": _gather})
"""Rules by operator."""
