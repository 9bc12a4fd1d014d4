"""Tables of 256 bytes: a function of one code, whatever it computes, as one look-up.

words      two-table permutations of 16-bit numbers: each holds the results of two neighboring codes
nibbles    sixteen shuffles of 16 bytes, one for each upper half of a code: what is not its own gives zero
gathered   one load for each code
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tvm import tirx

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder, Memory
from graphpress.backends.tvm.codegen.vectors import splat, typed

ENTRIES = 256
PART = 16
"""Bytes that a shuffle of bytes sees."""


class Lookup(Protocol):
    """How bytes are looked up."""

    @property
    def bytes(self) -> int:
        """How many at a time; 0 for any number."""
        ...

    def look_up(self, b: KernelBuilder, table: Memory, codes: Expr, count: int) -> Expr:
        """The entry of each code.

        Args:
            b: takes the statements.
            table: ``ENTRIES`` bytes; that of a negative code lies where its bits say.
            codes: a vector of uint8.
            count: how many there are: ``bytes``.
        """
        ...


@dataclass(frozen=True)
class GatheredLookup:
    """Byte by byte, on any processor.

    Args:
        bytes: any number.
    """

    bytes: int = 0

    def look_up(self, b: KernelBuilder, table: Memory, codes: Expr, count: int) -> Expr:
        """Load by load."""
        return tirx.BufferLoad(table.buffer, [codes.astype(typed("int32", count))])


GATHERED = GatheredLookup()
"""What every processor can do."""


@dataclass(frozen=True)
class WordLookup:
    """Permutations of 16-bit numbers over two tables of 32.

    Args:
        bytes: of a vector.
        permute: LLVM's name of the instruction.
    """

    bytes: int
    permute: str

    def look_up(self, b: KernelBuilder, table: Memory, codes: Expr, count: int) -> Expr:
        """Those at even places, those at odd ones, and both together."""
        words = b.let(tirx.reinterpret(typed("uint16", self.bytes // 2), codes))
        tables = [
            b.let(tirx.reinterpret(typed("uint16", self.bytes // 2), b.load(table, start, self.bytes)))
            for start in range(0, ENTRIES, self.bytes)
        ]
        even = self._entries(b, tables, b.let(words & self._all(255)))
        odd = self._entries(b, tables, b.let(words >> self._all(8)))
        return tirx.reinterpret(typed("uint8", self.bytes), even | (odd << self._all(8)))

    def _entries(self, b: KernelBuilder, tables: list[Expr], codes: Expr) -> Expr:
        index = b.let(codes >> self._all(1))
        dtype = typed("uint16", self.bytes // 2)
        low, high = (
            tirx.call_llvm_pure_intrin(dtype, self.permute, tables[first], index, tables[first + 1]) for first in (0, 2)
        )
        pair = tirx.Select(codes < self._all(ENTRIES // 2), low, high)
        return b.let((pair >> ((codes & self._all(1)) << self._all(3))) & self._all(255))

    def _all(self, number: int) -> Expr:
        return splat(number, self.bytes // 2, "uint16")


@dataclass(frozen=True)
class NibbleLookup:
    """Shuffles of 16 bytes, whose index is zero's where its highest bit is set.

    Args:
        bytes: of a vector.
        shuffle: LLVM's name of the instruction.
        add: LLVM's name of the saturating addition of bytes.
    """

    bytes: int
    shuffle: str
    add: str

    def look_up(self, b: KernelBuilder, table: Memory, codes: Expr, count: int) -> Expr:
        """The sixteenth of the table that an upper half names, for all of them."""
        dtype, result = typed("uint8", self.bytes), splat(0, self.bytes, "uint8")
        everywhere = [tirx.const(place, "int32") for place in range(self.bytes)]
        for start in range(0, ENTRIES, PART):
            part = tirx.Shuffle([b.let(b.load(table, start, PART))] * (self.bytes // PART), everywhere)
            place = codes ^ splat(start, self.bytes, "uint8")
            saturated = tirx.call_llvm_pure_intrin(dtype, self.add, place, splat(0x70, self.bytes, "uint8"))
            result = b.let(result | tirx.call_llvm_pure_intrin(dtype, self.shuffle, part, saturated))
        return result
