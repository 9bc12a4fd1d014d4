"""Encodings as the codes that kernels compute with.

An instruction set multiplies unsigned or signed activations; a model's codes may be the other. The grid is the same:
codes and zero-point are shifted together by the difference of the types' smallest values, at compile time.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.ir.encoding import AffineEncoding, Encoding

BYTES = ("uint8", "int8")


@dataclass(frozen=True)
class Codes:
    """A grid of codes in the type of an instruction set.

    Args:
        scale: of the reals.
        zero_point: of the codes, in the instruction set's type.
        low: smallest code.
        high: largest code.
        shift: what the codes of the model are less.
    """

    scale: float
    zero_point: int
    low: int
    high: int
    shift: int = 0


def codes_of(encoding: Encoding | None, isa: Isa) -> Codes | None:
    """The codes of an activation's encoding; None where it is float.

    Raises:
        NotImplementedError: the encoding is none of one scale for a tensor of bytes.
    """
    if encoding is None:
        return None
    if not isinstance(encoding, AffineEncoding) or encoding.dtype not in BYTES or encoding.scale.size != 1:
        raise NotImplementedError(f"activations in {encoding.label}")
    low, high = isa.code_bounds
    shift = low - encoding.bounds[0]
    return Codes(float(encoding.scale), int(encoding.zero_point) + shift, low, high, shift)
