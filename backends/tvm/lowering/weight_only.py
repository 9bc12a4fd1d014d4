"""Matrix products with integer weights: the codes stay in memory as they are, whatever the number of rows.

Activations stay floats, or are rounded to eight bits for each block of a row (``coded_blocks``), where that is asked
for and the processor multiplies such codes exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from graphpress.analysis.linear import LinearOp
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.kernels.coded_blocks import CodedBlocks
from graphpress.backends.tvm.kernels.pieces import pieces
from graphpress.backends.tvm.kernels.plane import whole_vectors
from graphpress.backends.tvm.kernels.weight_only import WeightOnlyProduct, packed_by_block, packed_codes
from graphpress.backends.tvm.kernels.weight_only_sums import NIBBLES
from graphpress.backends.tvm.lowering.context import Lowering, StoredValue
from graphpress.backends.tvm.lowering.factors import channel_operands, filled
from graphpress.backends.tvm.lowering.fusion import ChainEnd
from graphpress.backends.tvm.program import Buffer, Constant, Source
from graphpress.ir.encoding import AffineEncoding, codes_of, integer_bounds, read_encoding

CODES = ("int4", "uint4", "int8", "uint8")
LARGEST_BLOCK = 128
"""Activations that share a scale, at most."""


@dataclass(frozen=True)
class CodedMatrix:
    """Integer weights of a matrix product.

    Args:
        codes: int8 ``[inputs, outputs]``, in two's complement.
        scales: float32 ``[blocks of inputs, outputs]``.
        zeros: int8, the code of zero of each block; None where it is 0.
    """

    codes: np.ndarray
    scales: np.ndarray
    zeros: np.ndarray | None = None

    @classmethod
    def of(cls, dtype: str, codes: np.ndarray, scales: np.ndarray, zeros: np.ndarray) -> CodedMatrix:
        """Of codes and zero-points of an integer type, by its ONNX name in lower case."""
        low, high = integer_bounds(dtype)
        middle = (low + high + 1) // 2
        below = (zeros.astype(np.int16) - middle).astype(np.int8)
        signed = (codes.astype(np.int16) - middle).astype(np.int8)
        return cls(signed, scales.astype(np.float32), below if below.any() else None)

    @property
    def block(self) -> int:
        """Inputs that share a scale."""
        return len(self.codes) // len(self.scales)

    @property
    def bits(self) -> int:
        """Of a code in memory: of four are whole words."""
        return 4 if _fits(self.codes, 4) and self.block % NIBBLES == 0 else 8

    def in_blocks(self, size: int) -> CodedMatrix:
        """The same in smaller blocks, which divide those that there are."""
        times = self.block // size
        zeros = None if self.zeros is None else np.repeat(self.zeros, times, axis=0)
        return replace(self, scales=np.repeat(self.scales, times, axis=0), zeros=zeros)


def coded_matrix(op: LinearOp) -> CodedMatrix | None:
    """The codes of a product's weights; None where they have no such encoding.

    Args:
        op: the product.
    """
    encoding = read_encoding(op.node, op.weight_index)
    if op.is_convolution or not isinstance(encoding, AffineEncoding) or encoding.dtype not in CODES:
        return None
    scales, zeros = (_of_blocks(op, encoding, array) for array in (encoding.scale, encoding.zero_point))
    if encoding.is_dynamic or scales is None or zeros is None or op.weight.const_value is None:
        return None
    codes = op.as_matrix(codes_of(op.weight.const_value, encoding))[0]
    return CodedMatrix.of(encoding.dtype, codes, scales * np.float32(op.alpha), zeros)


def emit_weight_only(
    lowering: Lowering, source: StoredValue, target: ChainEnd, weights: CodedMatrix, bias: np.ndarray, *, coded: bool
) -> None:
    """A product; before it its rows are rounded, where they are to be.

    Args:
        lowering: the program.
        source: floats, the inputs of each row together.
        target: what it writes, and how.
        weights: of the product.
        bias: per output.
        coded: whether activations may be rounded to eight bits.
    """
    isa = lowering.isa
    rows, vectors = _tile(source.plane.width, isa)
    product = WeightOnlyProduct(
        source.plane,
        target.store,
        weights.bits,
        weights.block,
        tuple(target.epilogue.stages),
        rows,
        vectors,
        weights.zeros is not None,
    )
    operands: dict[str, Source] = {"source": source.memory}
    if coded and (rounded := _coded(product, isa)) is not None:
        product, weights = rounded, weights.in_blocks(rounded.block)
        operands = _rounded_rows(lowering, source, rounded.block)
    channels = whole_vectors(product.store.plane.channels, isa.lanes)
    operands |= {
        "weights": Constant(packed_codes(product, weights.codes, isa)),
        "scales_of_blocks": Constant(packed_by_block(product, weights.scales, isa)),
        "bias": Constant(filled(bias.astype(np.float32), channels)),
        **channel_operands(target.epilogue.operands, channels),
        "result": target.operand.memory,
    }
    if weights.zeros is not None:
        operands["zeros_of_blocks"] = Constant(packed_by_block(product, weights.zeros, isa))
    lowering.emit(product, operands, target.nodes, source.images)


def _coded(product: WeightOnlyProduct, isa: Isa) -> WeightOnlyProduct | None:
    """The product of codes; None where no block is whole vectors, or the processor does not multiply them exactly."""
    block = max(
        (size for size in range(isa.lanes, LARGEST_BLOCK + 1, isa.lanes) if product.block % size == 0), default=0
    )
    if not block:
        return None
    rounded = replace(product, source=CodedBlocks(product.source, block).codes, block=block)
    return rounded if block % rounded.step == 0 and rounded.is_exact(isa) else None


def _rounded_rows(lowering: Lowering, source: StoredValue, block: int) -> dict[str, Source]:
    """Codes of a value in blocks, and their scales and sums, made once for all that read them."""
    key = source.memory, source.plane, block
    if key not in lowering.rounded_rows:
        kernel, images = CodedBlocks(source.plane, block), source.images
        codes, scales, sums = (
            Buffer(plane, images=images)
            for plane in (kernel.codes, kernel.blocks, replace(kernel.blocks, dtype="int32"))
        )
        lowering.emit(kernel, {"source": source.memory, "codes": codes, "scales": scales, "result": sums}, (), images)
        lowering.rounded_rows[key] = {"source": codes, "source_scales": scales, "source_sums": sums}
    return dict(lowering.rounded_rows[key])


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
