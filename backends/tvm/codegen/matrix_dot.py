"""Integer products of small matrices (i8mm): two pixels by two output channels, of eight bytes each, at once.

It multiplies twice as many bytes as one that takes four of each lane (``FourByteDot``), for as many registers of sums;
two pixels' activations have to be brought together in one register.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder, Memory
from graphpress.backends.tvm.codegen.vectors import picked

BYTES = 8
"""Of a row of either matrix: what a step of the reduction takes."""
PIXELS = 2
"""Rows of the first matrix."""
PAIR = 2 * BYTES
"""Bytes of a register."""


@dataclass(frozen=True)
class MatrixDot:
    """Sums of two pixels for four channels: a register for each two, ``[pixel 0: c, c + 1; pixel 1: c, c + 1]``.

    Args:
        intrinsic: LLVM's name of the instruction: the activations come first.
        partial: sums that an accumulator holds for each channel: one of each pixel.
        together: as ``Dot`` has it.
    """

    intrinsic: str
    partial: int = PIXELS
    together: int = 1

    def operands(self, b: KernelBuilder, memory: Memory, offsets: Sequence[Expr]) -> Expr:
        """Eight activations of each of two pixels; those of one twice, where it is alone."""
        rows = [b.load(memory, offset, BYTES) for offset in offsets]
        return b.let(picked([rows[0], rows[-1]], range(PAIR)))

    def start(self, bias: Expr, lanes: int) -> Expr:
        """The same numbers for both pixels."""
        return picked(
            [bias] * PIXELS, [channel for first in range(0, lanes, 2) for channel in (first, first + 1) * PIXELS]
        )

    def total(self, accumulator: Expr, lanes: int, pixel: int) -> Expr:
        """The sums of one of the pixels."""
        places = [PIXELS * first + 2 * pixel + channel for first in range(0, lanes, 2) for channel in (0, 1)]
        return picked([accumulator], places)

    def multiply(self, accumulator: Expr, activations: Expr, weights: Expr, lanes: int) -> Expr:
        """An instruction for each two channels; weights are eight in a row per channel."""
        halves = [self._half(accumulator, activations, weights, 2 * first) for first in range(0, lanes, 2)]
        return picked(halves, range(PIXELS * lanes))

    def _half(self, accumulator: Expr, activations: Expr, weights: Expr, start: int) -> Expr:
        sums = picked([accumulator], range(start, start + 4))
        factors = picked([weights], range(4 * start, 4 * start + PAIR))
        return tirx.call_llvm_pure_intrin("int32x4", self.intrinsic, sums, activations, factors)
