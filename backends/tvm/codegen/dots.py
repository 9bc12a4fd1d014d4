"""Integer products: how processors multiply bytes, and add.

A product takes four activations and four weights at a time: each 32-bit lane of the accumulator belongs to one output
channel, and adds the products of its four bytes. What differs between processors is the instruction, and how the codes
must be written for it:

    vnni       vpdpbusd: unsigned activations, signed weights
    maddubs    pmaddubsw and pmaddwd: the same, exact while two products fit in 16 bits (weights of 7 bits)
    usdot      the same on Arm (i8mm; sudot where activations are picked out of a vector); beside it usmmla, which
               multiplies matrices (``MatrixDot``)
    sdot       signed activations: every zero-point is 128 less, which costs nothing at run time
    widening   no such instruction: bytes multiply into 16 bits (smull), pairs of products add up in 32 (sadalp)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tvm import tirx

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder, Memory
from graphpress.backends.tvm.codegen.vectors import picked, splat, typed

GROUP = 4
"""Activations that one integer step takes."""
HALF = 8
"""Bytes that multiply into a vector of 16-bit numbers on Arm."""


class Dot(Protocol):
    """Multiplies four activations by the weights of a vector of output channels, and adds."""

    @property
    def activations(self) -> str:
        """Type of the activations' codes."""
        ...

    @property
    def prefers_bytes(self) -> bool:
        """Whether ``products`` are faster than floats that hold the same integers."""
        ...

    @property
    def largest_weight(self) -> int:
        """The largest weight, by its absolute value, with which it is exact."""
        ...

    @property
    def partial(self) -> int:
        """Sums that an accumulator holds for each output channel, which are added at the very end."""
        ...

    @property
    def together(self) -> int:
        """Steps whose activations are loaded at once, because each is picked out of a vector for nothing."""
        ...

    def operands(self, b: KernelBuilder, memory: Memory, offset: Expr, steps: int) -> Sequence[Expr]:
        """Four activations for each of one step, or of so many as are loaded together, as ``multiply`` takes them."""
        ...

    def start(self, bias: Expr, lanes: int) -> Expr:
        """An accumulator that holds a number per output channel."""
        ...

    def total(self, accumulator: Expr, lanes: int) -> Expr:
        """A number per output channel."""
        ...

    def multiply(self, accumulator: Expr, activations: Expr, weights: Expr, lanes: int) -> Expr:
        """The accumulator with the products added.

        Args:
            accumulator: of ``start``.
            activations: of ``operands``.
            weights: int8, four in a row per output channel.
            lanes: output channels.
        """
        ...

    def products(self, accumulator: Expr, bytes_: Expr, weights: Expr, lanes: int) -> Expr:
        """The same where each output channel has four activations of its own, given as int8, and one sum."""
        ...


class BytesDot(ABC):
    """What takes four bytes at a time: those of one pixel spread over all lanes are a case of its ``products``."""

    partial: int = 1
    together: int = 1

    def operands(self, b: KernelBuilder, memory: Memory, offset: Expr, steps: int) -> Sequence[Expr]:
        """Each four bytes as one 32-bit number."""
        if steps == 1:
            return [b.let(tirx.reinterpret("int32", b.load(memory, offset, GROUP)))]
        numbers = b.let(tirx.reinterpret(typed("int32", steps), b.load(memory, offset, GROUP * steps)))
        return [tirx.Shuffle([numbers], [tirx.const(step, "int32")]) for step in range(steps)]

    def start(self, bias: Expr, lanes: int) -> Expr:
        """As it is."""
        return bias

    def total(self, accumulator: Expr, lanes: int) -> Expr:
        """As it is."""
        return accumulator

    def multiply(self, accumulator: Expr, activations: Expr, weights: Expr, lanes: int) -> Expr:
        """The same four activations for each output channel."""
        spread = tirx.reinterpret(typed("int8", GROUP * lanes), splat(activations, lanes))
        return self.products(accumulator, spread, weights, lanes)

    @abstractmethod
    def products(self, accumulator: Expr, bytes_: Expr, weights: Expr, lanes: int) -> Expr:
        """As ``Dot`` has it."""


@dataclass(frozen=True)
class FourByteDot(BytesDot):
    """An instruction that multiplies bytes by fours.

    Args:
        activations: type of the activations' codes.
        intrinsic: LLVM's name of it.
        weights_first: the order of the factors.
        together: as ``Dot`` has it.
    """

    activations: str
    intrinsic: str
    weights_first: bool = False
    together: int = 1
    prefers_bytes: bool = True
    largest_weight: int = 128

    def products(self, accumulator: Expr, bytes_: Expr, weights: Expr, lanes: int) -> Expr:
        """One instruction."""
        factors = (weights, bytes_) if self.weights_first else (bytes_, weights)
        return tirx.call_llvm_pure_intrin(typed("int32", lanes), self.intrinsic, accumulator, *factors)


@dataclass(frozen=True)
class MaddubsDot(BytesDot):
    """Two instructions of older x86: pairs of products in 16 bits, saturated, then pairs of those in 32.

    Args:
        pairs: LLVM's name of the first.
        sums: LLVM's name of the second.
        activations: type of the activations' codes.
    """

    pairs: str
    sums: str
    activations: str = "uint8"
    prefers_bytes: bool = True
    largest_weight: int = 64

    def products(self, accumulator: Expr, bytes_: Expr, weights: Expr, lanes: int) -> Expr:
        """Exact where |weight| ≤ 64."""
        pairs = tirx.call_llvm_pure_intrin(typed("int16", 2 * lanes), self.pairs, bytes_, weights)
        ones = splat(1, 2 * lanes, "int16")
        return accumulator + tirx.call_llvm_pure_intrin(typed("int32", lanes), self.sums, pairs, ones)


@dataclass(frozen=True)
class WideningDot(BytesDot):
    """No such instruction: bytes multiply into 16 bits (smull), and neighbors are added into 32 (sadalp).

    An accumulator holds two sums for each output channel, of the first and the last two of four products.

    Args:
        activations: type of the activations' codes.
    """

    activations: str = "int8"
    partial: int = 2
    prefers_bytes: bool = False
    largest_weight: int = 128

    def start(self, bias: Expr, lanes: int) -> Expr:
        """The numbers with zeros between."""
        places = [place for lane in range(lanes) for place in (lane, lanes)]
        return picked([bias, splat(0, lanes, "int32")], places)

    def total(self, accumulator: Expr, lanes: int) -> Expr:
        """Neighbors added."""
        return self._folded(*(picked([accumulator], range(start, start + lanes)) for start in (0, lanes)))

    def multiply(self, accumulator: Expr, activations: Expr, weights: Expr, lanes: int) -> Expr:
        """Two instructions for half of the bytes."""
        spread = tirx.reinterpret(typed("int8", HALF), splat(activations, 2))
        halves = [
            picked([accumulator], range(start, start + lanes)) + self._pairs(spread, weights, 2 * start)
            for start in (0, lanes)
        ]
        return picked(halves, range(2 * lanes))

    def products(self, accumulator: Expr, bytes_: Expr, weights: Expr, lanes: int) -> Expr:
        """Pairs of products, and pairs of those."""
        halves = (picked([bytes_], range(start, start + HALF)) for start in (0, HALF))
        pairs = [self._pairs(half, weights, HALF * number) for number, half in enumerate(halves)]
        return accumulator + self._folded(*pairs)

    @staticmethod
    def _pairs(bytes_: Expr, weights: Expr, start: int) -> Expr:
        """Sums of two products: of eight bytes with as many weights."""
        half = picked([weights], range(start, start + HALF))
        products = tirx.call_llvm_pure_intrin("int16x8", "llvm.aarch64.neon.smull.v8i16", bytes_, half)
        return tirx.call_llvm_pure_intrin("int32x4", "llvm.aarch64.neon.saddlp.v4i32.v8i16", products)

    @staticmethod
    def _folded(first: Expr, last: Expr) -> Expr:
        return tirx.call_llvm_pure_intrin("int32x4", "llvm.aarch64.neon.addp.v4i32", first, last)
