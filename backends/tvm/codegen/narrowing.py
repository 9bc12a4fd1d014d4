"""Narrowing: bytes of vectors of 32-bit numbers, and bytes that are interleaved on the way in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tvm import tirx

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder
from graphpress.backends.tvm.codegen.dots import GROUP
from graphpress.backends.tvm.codegen.vectors import picked, typed

PART = 16
"""Bytes within which x86 moves and narrows."""
TOGETHER = 4
"""Vectors of 32-bit numbers that fill one of bytes."""


class Narrowing(Protocol):
    """Makes bytes, as activations have them, of four vectors of int32, with saturation."""

    def narrowed(self, vectors: Sequence[Expr], lanes: int) -> Expr:
        """In their order."""
        ...

    def mixed(self, vectors: Sequence[Expr], lanes: int) -> Expr:
        """Each part of 128 bits with four of each vector: what ``zipped`` undoes."""
        ...


@dataclass(frozen=True)
class PackedNarrowing:
    """Instructions of x86 that make bytes of 32-bit numbers, with saturation: two vectors of halves, then one of bytes.

    Both work within 128 bits: of the first, second, … vector each part gets four bytes in turn.

    Args:
        halves: LLVM's name of the first.
        bytes: LLVM's name of the second, whose results are unsigned.
    """

    halves: str
    bytes: str

    def mixed(self, vectors: Sequence[Expr], lanes: int) -> Expr:
        """Four vectors of int32 as one of uint8, each part of 128 bits with four of each: what ``zipped`` undoes."""
        first, second, third, fourth = vectors
        halves = [
            tirx.call_llvm_pure_intrin(typed("int16", 2 * lanes), self.halves, *pair)
            for pair in ((first, second), (third, fourth))
        ]
        mixed = tirx.call_llvm_pure_intrin(typed("int8", TOGETHER * lanes), self.bytes, *halves)
        return tirx.reinterpret(typed("uint8", TOGETHER * lanes), mixed)

    def narrowed(self, vectors: Sequence[Expr], lanes: int) -> Expr:
        """Four vectors of int32 as one of uint8, in their order."""
        mixed = self.mixed(vectors, lanes)
        order = [
            tirx.const(TOGETHER * part + place, "int32") for place in range(TOGETHER) for part in range(lanes // 4)
        ]
        fours = tirx.Shuffle([tirx.reinterpret(typed("int32", lanes), mixed)], order)
        return tirx.reinterpret(typed("uint8", TOGETHER * lanes), fours)


@dataclass(frozen=True)
class HalvingNarrowing:
    """Instructions of Arm that halve numbers, with saturation and in their order: to 16 bits, then to bytes.

    Args:
        bytes: LLVM's name of the second.
        codes: type of the results.
    """

    bytes: str
    codes: str

    def narrowed(self, vectors: Sequence[Expr], lanes: int) -> Expr:
        """Four vectors of int32 as one of bytes, in their order."""
        halves = [tirx.call_llvm_pure_intrin("int16x4", "llvm.aarch64.neon.sqxtn.v4i16", each) for each in vectors]
        pairs = [picked(halves[start : start + 2], range(2 * lanes)) for start in (0, 2)]
        parts = [tirx.call_llvm_pure_intrin("int8x8", self.bytes, pair) for pair in pairs]
        return tirx.reinterpret(typed(self.codes, TOGETHER * lanes), picked(parts, range(TOGETHER * lanes)))

    def mixed(self, vectors: Sequence[Expr], lanes: int) -> Expr:
        """The same: a vector is one part of 128 bits."""
        return self.narrowed(vectors, lanes)


def zipped(b: KernelBuilder, rows: Sequence[Expr], lanes: int) -> list[Expr]:
    """The bytes of four vectors as the four bytes of 32-bit lanes: element c of all rows lies in one lane.

    Bytes, then halves, are interleaved within 128 bits, as instructions of x86 do it: lane 4i + e of vector v holds
    element 16i + 4v + e (``zipped_order``).

    Args:
        b: takes the statements.
        rows: four vectors of bytes; the first becomes the lowest byte.
        lanes: 32-bit numbers in a vector.
    """
    pairs = [(rows[0], rows[1]), (rows[2], rows[3])]
    result = []
    for high in (False, True):
        first, second = (b.let(_alternating(*pair, 1, high, GROUP * lanes)) for pair in pairs)
        result += [_alternating(first, second, 2, half, GROUP * lanes) for half in (False, True)]
    return [b.let(vector) for vector in result]


def zipped_order(lanes: int) -> list[int]:
    """Which element lies in each lane of the vectors of ``zipped``."""
    return [16 * part + 4 * vector + lane for vector in range(GROUP) for part in range(lanes // 4) for lane in range(4)]


def _alternating(first: Expr, second: Expr, unit: int, high: bool, size: int) -> Expr:
    """Units of bytes of two vectors by turns, of the low or high halves of their parts of 128 bits."""
    half = PART // 2
    places = [
        source * size + part + high * half + place + byte
        for part in range(0, size, PART)
        for place in range(0, half, unit)
        for source in (0, 1)
        for byte in range(unit)
    ]
    return tirx.Shuffle([first, second], [tirx.const(place, "int32") for place in places])
