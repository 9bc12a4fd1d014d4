"""Matrix products of floats with integer weights: the codes stay in memory as they are, whatever the number of rows."""

from __future__ import annotations

import numpy as np

from graphpress.analysis.linear import LinearOp
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.kernels.pieces import pieces
from graphpress.backends.tvm.kernels.plane import whole_vectors
from graphpress.backends.tvm.kernels.weight_only import NIBBLES, WeightOnlyProduct, packed_codes, packed_scales
from graphpress.backends.tvm.lowering.context import Lowering, StoredValue
from graphpress.backends.tvm.lowering.factors import Factors, channel_operands, filled
from graphpress.backends.tvm.lowering.fusion import ChainEnd
from graphpress.backends.tvm.program import Constant
from graphpress.ir.encoding import AffineEncoding, codes_of, read_encoding

CODES = ("int4", "uint4", "int8", "uint8")


def weight_only_factors(op: LinearOp, bias: np.ndarray) -> Factors | None:
    """Codes of the weights, and a scale for each block of inputs of an output; None where they have no such encoding.

    Args:
        op: the product.
        bias: per output.
    """
    encoding = read_encoding(op.node, op.weight_index)
    if op.is_convolution or not isinstance(encoding, AffineEncoding) or encoding.dtype not in CODES:
        return None
    scales, zeros = (_of_blocks(op, encoding, array) for array in (encoding.scale, encoding.zero_point))
    if encoding.is_dynamic or scales is None or zeros is None or op.weight.const_value is None:
        return None
    codes = op.as_matrix(codes_of(op.weight.const_value, encoding))[0].astype(np.int16)
    centered = codes - np.repeat(zeros, codes.shape[0] // zeros.shape[0], axis=0)
    if not _fits(centered, 8):
        return None
    kernel = np.ascontiguousarray(centered.T.astype(np.int8))[..., None, None]
    return Factors(kernel, bias.astype(np.float32), block_scales=scales.astype(np.float32) * np.float32(op.alpha))


def emit_weight_only(lowering: Lowering, source: StoredValue, target: ChainEnd, factors: Factors) -> None:
    """One kernel."""
    assert factors.block_scales is not None
    isa, codes = lowering.isa, factors.kernel[..., 0, 0].T
    block = codes.shape[0] // factors.block_scales.shape[0]
    bits = 4 if _fits(codes, 4) and block % NIBBLES == 0 else 8
    rows, vectors = _tile(source.plane.width, isa)
    stages = tuple(target.epilogue.stages)
    product = WeightOnlyProduct(source.plane, target.store, bits, block, stages, rows, vectors)
    channels = whole_vectors(codes.shape[1], isa.lanes)
    operands = {
        "source": source.memory,
        "weights": Constant(packed_codes(product, codes, isa)),
        "scales_of_blocks": Constant(packed_scales(product, factors.block_scales, isa)),
        "bias": Constant(filled(factors.bias, channels)),
        **channel_operands(target.epilogue.operands, channels),
        "result": target.operand.memory,
    }
    lowering.emit(product, operands, target.nodes, source.images)


def _of_blocks(op: LinearOp, encoding: AffineEncoding, array: np.ndarray) -> np.ndarray | None:
    """Scales or zero-points as ``[blocks of inputs, outputs]``; None where blocks lie otherwise."""
    rank = len(op.weight_shape)
    if encoding.axis is None:
        return np.broadcast_to(array.reshape(1, 1), (1, op.channels_out))
    if not encoding.block:
        return array.reshape(1, -1) if encoding.axis % rank == op.out_axis % rank else None
    if encoding.axis % rank != op.in_axis % rank or op.channels_in % encoding.block:
        return None
    matrix: np.ndarray = array.T if op.transposes_weight else array
    return matrix.reshape(-1, op.channels_out)


def _fits(codes: np.ndarray, bits: int) -> bool:
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1
    return bool(codes.min(initial=0) >= low and codes.max(initial=0) <= high)


def _tile(width: int, isa: Isa) -> tuple[int, int]:
    """Rows and vectors whose sums fill half of the registers; with few rows four vectors hide each other's latency."""
    vectors = 4 if width <= isa.registers // 8 else 2
    most = max(1, isa.registers // 2 // vectors)
    return pieces(width, pieces(width, most)), vectors
