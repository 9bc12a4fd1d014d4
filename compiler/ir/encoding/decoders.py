"""The operator of ONNX that decodes a constant from its codes, so that a file holds the codes and not the floats."""

from __future__ import annotations

from typing import Final, NamedTuple

from graphpress.ir.encoding.affine import AffineEncoding
from graphpress.ir.encoding.cast import CastEncoding
from graphpress.ir.encoding.grids import FLOAT8
from graphpress.ir.encoding.kinds import Encoding
from graphpress.ir.types import DataType

_DEQUANTIZE_OPSETS: Final = {
    "int8": 10, "uint8": 10, "int32": 10, FLOAT8: 19, "int16": 21, "uint16": 21, "int4": 21, "uint4": 21, "int2": 25,
    "uint2": 25,
}  # fmt: skip
_CAST_OPSETS: Final = {"float16": 9, "bfloat16": 13, FLOAT8: 19}
_AXIS_OPSET: Final = 13
_BLOCK_OPSET: Final = 21


class Decoder(NamedTuple):
    """An operator whose first input are the codes; scales and zero-points, where it has them, follow.

    Args:
        op_type: of the standard domain.
        attributes: all of them.
    """

    op_type: str
    attributes: dict[str, int]


def decoder_of(encoding: Encoding, dtype: DataType, opset: int) -> Decoder | None:
    """The operator that decodes to ``dtype``, or None where this operator set has none."""
    if dtype != DataType.FLOAT:
        return None
    if isinstance(encoding, CastEncoding):
        fitting = opset >= _CAST_OPSETS[encoding.dtype]
        return Decoder("Cast", {"to": int(dtype)}) if fitting else None
    if not isinstance(encoding, AffineEncoding) or opset < _needed_opset(encoding):
        return None
    attributes = {} if encoding.axis is None else {"axis": encoding.axis}
    return Decoder("DequantizeLinear", attributes | ({"block_size": encoding.block} if encoding.block else {}))


def _needed_opset(encoding: AffineEncoding) -> int:
    grain = _BLOCK_OPSET if encoding.block else _AXIS_OPSET if encoding.axis is not None else 0
    return max(grain, _DEQUANTIZE_OPSETS[encoding.dtype])
