"""MatMulNBits and GatherBlockQuantized of ONNX Runtime: weights that were packed before the model came here.

    y[m, n] = Σ x[m, k] · scale[n, block] · (q[n, k] - zero[n, block]) + bias[n]
    y[…, :] = scale[row, block] · (q[row, :] - zero[row, block])

Each output has its codes block by block, of a byte the lowest bits first, blocks filled up. Where a block does not
divide the inputs, smaller ones do. Activations stay floats unless the node asks for accuracy level 4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from graphpress.backends.tvm.lowering.context import Lowering, shape_of
from graphpress.backends.tvm.lowering.epilogue import Epilogue
from graphpress.backends.tvm.lowering.fusion import finish
from graphpress.backends.tvm.lowering.operands import floats_of, last
from graphpress.backends.tvm.lowering.refusal import refused
from graphpress.backends.tvm.lowering.rules.gather import centered_rows, gather_rows
from graphpress.backends.tvm.lowering.rules.rule import Rule
from graphpress.backends.tvm.lowering.weight_only import CodedMatrix, emit_weight_only
from graphpress.ir import Node, NodeView, constant, input_of

DATA, CODES, SCALES, ZEROS, ORDER, BIAS = range(6)
TABLE, INDICES, TABLE_SCALES, TABLE_ZEROS = range(4)
"""Inputs of the operators."""
BITS = (2, 4, 8)
ROUNDED = 4
"""The accuracy level at which activations are rounded to eight bits."""


def _packed_product(node: Node, lowering: Lowering) -> None:
    """A product, and the chain behind it, as one kernel.

    Raises:
        UnsupportedError: weights are computed at run time, of other bits, or in an order of their own.
    """
    view = NodeView.of(node)
    weights, bias = _matrix(node, view), _bias(node, view.integer("N", 0))
    shape = shape_of(node.outputs[0])
    source = floats_of(lowering, node, DATA)
    order = last(source.order, len(shape) - 1)
    source = floats_of(lowering, node, DATA, order)
    target = finish(lowering, node, order, Epilogue())
    coded = lowering.rounds_activations or view.integer("accuracy_level", 0) == ROUNDED
    emit_weight_only(lowering, source, target, weights, bias, coded=coded)


def _matrix(node: Node, view: NodeView) -> CodedMatrix:
    bits, block = view.integer("bits", 4), view.integer("block_size", 0)
    inputs, outputs = view.integer("K", 0), view.integer("N", 0)
    if input_of(node, ORDER) is not None:
        raise refused(node, "its inputs are in an order of their own (g_idx)")
    if bits not in BITS:
        raise refused(node, f"its weights are of {bits} bits, none of {BITS}")
    packed, scales = constant(input_of(node, CODES)), constant(input_of(node, SCALES))
    if packed is None or scales is None:
        raise refused(node, "its weights are computed at run time")
    blocks = -(-inputs // block)
    codes = _unpacked(packed.reshape(outputs, -1), bits)[:, :inputs].T
    zeros = np.full((outputs, blocks), 1 << bits - 1)
    if input_of(node, ZEROS) is not None:
        zeros = _zeros(node, bits, (outputs, blocks))
    size = math.gcd(inputs, block)
    starts = np.arange(0, inputs, size) // block
    by_block = (array.reshape(outputs, blocks).T[starts] for array in (scales.astype(np.float32), zeros))
    return CodedMatrix.of(f"uint{bits}", codes, *by_block)


def _zeros(node: Node, bits: int, shape: tuple[int, int]) -> np.ndarray:
    """Zero-points ``[outputs, blocks]``, each output's filled up to a byte."""
    packed = constant(input_of(node, ZEROS))
    if packed is None or packed.dtype != np.uint8:
        raise refused(node, "its zero-points are no integers that are known")
    return _unpacked(packed.reshape(shape[0], -1), bits)[:, : shape[1]]


def _unpacked(packed: np.ndarray, bits: int) -> np.ndarray:
    """Bytes ``[rows, bytes]`` as the numbers in them, from the lowest bits up."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    parts = packed[:, :, None] >> shifts & np.uint8((1 << bits) - 1)
    numbers: np.ndarray = parts.reshape(len(packed), -1)
    return numbers


def _bias(node: Node, outputs: int) -> np.ndarray:
    if input_of(node, BIAS) is None:
        return np.zeros(outputs, np.float32)
    bias = constant(input_of(node, BIAS))
    if bias is None:
        raise refused(node, "its bias is computed at run time")
    return bias


def _packed_rows(node: Node, lowering: Lowering) -> None:
    """Rows of a table in blocks along them.

    Raises:
        UnsupportedError: the table is computed at run time, or its blocks lie across rows.
    """
    view = NodeView.of(node)
    stored, scales = constant(node.inputs[TABLE]), constant(input_of(node, TABLE_SCALES))
    if stored is None or scales is None or stored.ndim != 2:
        raise refused(node, "its table is no matrix that is known")
    if view.integer("gather_axis", 0) % 2 or view.integer("quantize_axis", 1) % 2 != 1:
        raise refused(node, "it picks no rows, or its blocks do not lie along them")
    bits, packed = view.integer("bits", 4), stored.dtype == np.uint8
    codes = _unpacked(stored, bits) if packed else stored.astype(np.int16)
    zeros = np.full(scales.shape, 1 << bits - 1 if packed else 0)
    if input_of(node, TABLE_ZEROS) is not None:
        known = constant(input_of(node, TABLE_ZEROS))
        if known is None:
            raise refused(node, "its zero-points are computed at run time")
        zeros = _unpacked(known, bits)[:, : scales.shape[1]] if packed else known.astype(np.int16)
    size = math.gcd(codes.shape[1], view.integer("block_size", 128))
    starts = np.arange(0, codes.shape[1], size) // view.integer("block_size", 128)
    arrays = centered_rows(codes, scales.astype(np.float32)[:, starts], zeros[:, starts])
    indices = node.inputs[INDICES]
    assert indices is not None
    if arrays is None:
        raise refused(node, "its codes less their zero-points are no int8")
    gather_rows(node, lowering, arrays, indices)


RULES: Mapping[str, Rule] = MappingProxyType(
    {"com.microsoft:GatherBlockQuantized": _packed_rows, "com.microsoft:MatMulNBits": _packed_product}
)
"""Rules by operator."""
