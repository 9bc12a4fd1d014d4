"""Instruction sets: how wide vectors are, how integers are multiplied, rounded and narrowed.

An integer product takes four activations and four weights at a time: each 32-bit lane of the accumulator belongs to
one output channel, and adds the products of its four bytes. What differs between processors is the instruction, and
how the codes must be written for it:

    vnni       vpdpbusd: unsigned activations, signed weights
    maddubs    pmaddubsw and pmaddwd: the same, exact while two products fit in 16 bits (weights of 7 bits)
    usdot      the same on Arm (i8mm)
    sdot       signed activations: every zero-point is 128 less, which costs nothing at run time
    widening   no such instruction: bytes multiply into 16 bits (smull), pairs of products add up in 32 (sadalp)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Protocol

from tvm import target, tirx

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder, Memory
from graphpress.backends.tvm.codegen.features import OPTIONAL, llvm_attributes
from graphpress.backends.tvm.codegen.lookup import GATHERED, Lookup, NibbleLookup, WordLookup
from graphpress.backends.tvm.codegen.vectors import clamped, splat, typed

GROUP = 4
"""Activations that one integer step takes."""
PART = 16
"""Bytes within which x86 moves and narrows."""
TOGETHER = 4
"""Vectors of 32-bit numbers that fill one of bytes."""
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
        return _picked([bias, splat(0, lanes, "int32")], places)

    def total(self, accumulator: Expr, lanes: int) -> Expr:
        """Neighbors added."""
        return self._folded(*(_picked([accumulator], range(start, start + lanes)) for start in (0, lanes)))

    def multiply(self, accumulator: Expr, activations: Expr, weights: Expr, lanes: int) -> Expr:
        """Two instructions for half of the bytes."""
        spread = tirx.reinterpret(typed("int8", HALF), splat(activations, 2))
        halves = [
            _picked([accumulator], range(start, start + lanes)) + self._pairs(spread, weights, 2 * start)
            for start in (0, lanes)
        ]
        return _picked(halves, range(2 * lanes))

    def products(self, accumulator: Expr, bytes_: Expr, weights: Expr, lanes: int) -> Expr:
        """Pairs of products, and pairs of those."""
        halves = (_picked([bytes_], range(start, start + HALF)) for start in (0, HALF))
        pairs = [self._pairs(half, weights, HALF * number) for number, half in enumerate(halves)]
        return accumulator + self._folded(*pairs)

    @staticmethod
    def _pairs(bytes_: Expr, weights: Expr, start: int) -> Expr:
        """Sums of two products: of eight bytes with as many weights."""
        half = _picked([weights], range(start, start + HALF))
        products = tirx.call_llvm_pure_intrin("int16x8", "llvm.aarch64.neon.smull.v8i16", bytes_, half)
        return tirx.call_llvm_pure_intrin("int32x4", "llvm.aarch64.neon.saddlp.v4i32.v8i16", products)

    @staticmethod
    def _folded(first: Expr, last: Expr) -> Expr:
        return tirx.call_llvm_pure_intrin("int32x4", "llvm.aarch64.neon.addp.v4i32", first, last)


def _picked(vectors: Sequence[Expr], places: Iterable[int]) -> Expr:
    """Lanes of vectors, counted through all of them."""
    return tirx.Shuffle(list(vectors), [tirx.const(place, "int32") for place in places])


@dataclass(frozen=True)
class Narrowing:
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


@dataclass(frozen=True)
class Isa:
    """An instruction set.

    Args:
        name: as targets name it.
        processor: for which instructions are scheduled, by LLVM's name: the oldest that has it, unless one is chosen.
        lanes: 32-bit numbers in a vector.
        registers: vector registers.
        dot: integer products.
        narrowing: of ``TOGETHER`` vectors into one of bytes; None where each is narrowed alone.
        rounds: LLVM's intrinsic from floats to the nearest integers, ties to even; empty where two steps do it.
        needs: features of the processor, as /proc/cpuinfo calls them.
        family: the architecture, as ``uname -m`` prints it.
        lookup: LLVM's intrinsic that picks floats of a vector by the low bits of whole numbers; empty where a vector
            holds fewer than sixteen.
        byte_lookup: how codes are looked up in a table.
    """

    name: str
    processor: str
    lanes: int
    registers: int
    dot: Dot
    narrowing: Narrowing | None = None
    rounds: str = ""
    needs: tuple[str, ...] = ()
    family: str = "x86_64"
    lookup: str = ""
    byte_lookup: Lookup = GATHERED

    @property
    def triple(self) -> str:
        """What C compilers call the machine."""
        return f"{self.family}-linux-gnu"

    @property
    def target(self) -> Expr:
        """TVM's target, which has what is needed and no more."""
        features = list(llvm_attributes(self.family, self.processor, self.needs))
        triple = f"{self.family}-unknown-linux-gnu"
        return target.Target({"kind": "llvm", "mcpu": self.processor, "mtriple": triple, "mattr": features})

    @property
    def code_bounds(self) -> tuple[int, int]:
        """Smallest and largest code of an activation."""
        return (0, 255) if self.dot.activations == "uint8" else (-128, 127)

    def rounded(self, vector: Expr, lanes: int) -> Expr:
        """Floats as the nearest int32, ties to even."""
        if self.rounds and lanes == self.lanes:
            every, current = tirx.const(-1, "int16"), tirx.const(4, "int32")  # the rounding of the control register
            masked = [splat(0, lanes, "int32"), every, current] if ".mask." in self.rounds else []
            return tirx.call_llvm_pure_intrin(typed("int32", lanes), self.rounds, vector, *masked)
        return tirx.nearbyint(vector).astype(typed("int32", lanes))

    def looked_up(self, b: KernelBuilder, table: Memory, codes: Expr, count: int) -> Expr:
        """The entry of each of so many codes."""
        fitting = self.byte_lookup if self.byte_lookup.bytes in (0, count) else GATHERED
        entries = fitting.look_up(b, table, tirx.reinterpret(typed("uint8", count), codes), count)
        return tirx.reinterpret(typed(self.dot.activations, count), entries)

    def codes(self, vector: Expr, zero_point: int, lanes: int) -> Expr:
        """Floats in units of the scale as codes, saturated."""
        low, high = self.code_bounds
        integers = self.rounded(vector, lanes) + splat(zero_point, lanes, "int32")
        bounded = clamped(integers, splat(low, lanes, "int32"), splat(high, lanes, "int32"))
        return bounded.astype(typed(self.dot.activations, lanes))

    def narrowed_codes(self, vectors: Sequence[Expr], zero_point: int, zipped: bool = False) -> Expr:
        """``TOGETHER`` vectors of floats as one of codes; only where there is a ``narrowing``.

        Args:
            vectors: in units of the scale.
            zero_point: of the codes.
            zipped: whether lanes are in the order of ``zipped``; it is undone.
        """
        assert self.narrowing is not None
        zeros = splat(zero_point, self.lanes, "int32")
        integers = [self.rounded(vector, self.lanes) + zeros for vector in vectors]
        narrow = self.narrowing.mixed if zipped else self.narrowing.narrowed
        return narrow(integers, self.lanes)


_AVX2 = ("avx2", "fma")
_AVX512 = ("avx512f", "avx512bw", "avx512dq", "avx512vl")
_NEON = ("asimd",)
_ROUND_512 = "llvm.x86.avx512.mask.cvtps2dq.512"
_LOOKUP_512 = "llvm.x86.avx512.permvar.sf.512"
_ROUND_256 = "llvm.x86.avx.cvt.ps2dq.256"
_NARROW_256 = Narrowing("llvm.x86.avx2.packssdw", "llvm.x86.avx2.packuswb")
_NARROW_512 = Narrowing("llvm.x86.avx512.packssdw.512", "llvm.x86.avx512.packuswb.512")
_BYTES_256 = NibbleLookup(32, "llvm.x86.avx2.pshuf.b", "llvm.uadd.sat.v32i8")
_BYTES_512 = WordLookup(64, "llvm.x86.avx512.vpermi2var.hi.512")
_MADD_256 = MaddubsDot("llvm.x86.avx2.pmadd.ub.sw", "llvm.x86.avx2.pmadd.wd")
_MADD_512 = MaddubsDot("llvm.x86.avx512.pmaddubs.w.512", "llvm.x86.avx512.pmaddw.d.512")
_VNNI_256 = FourByteDot("uint8", "llvm.x86.avx512.vpdpbusd.256")
_VNNI_512 = FourByteDot("uint8", "llvm.x86.avx512.vpdpbusd.512")
_SDOT = FourByteDot("int8", "llvm.aarch64.neon.sdot.v4i32.v16i8", weights_first=True, together=4)
_USDOT = FourByteDot("uint8", "llvm.aarch64.neon.usdot.v4i32.v16i8", together=4)

ISAS: Mapping[str, Isa] = MappingProxyType(
    {
        isa.name: isa
        for isa in (
            Isa("avx2", "haswell", 8, 16, _MADD_256, _NARROW_256, _ROUND_256, needs=_AVX2, byte_lookup=_BYTES_256),
            Isa(
                "avx-vnni",
                "alderlake",
                8,
                16,
                _VNNI_256,
                _NARROW_256,
                _ROUND_256,
                needs=(*_AVX2, "avx_vnni"),
                byte_lookup=_BYTES_256,
            ),
            Isa(
                "avx512",
                "skylake-avx512",
                16,
                32,
                _MADD_512,
                _NARROW_512,
                _ROUND_512,
                needs=_AVX512,
                lookup=_LOOKUP_512,
                byte_lookup=_BYTES_512,
            ),
            Isa(
                "avx512-vnni",
                "icelake-server",
                16,
                32,
                _VNNI_512,
                _NARROW_512,
                _ROUND_512,
                needs=(*_AVX512, "avx512_vnni"),
                lookup=_LOOKUP_512,
                byte_lookup=_BYTES_512,
            ),
            Isa("neon", "cortex-a72", 4, 32, WideningDot(), needs=_NEON, family="aarch64"),
            Isa("neon-dotprod", "cortex-a76", 4, 32, _SDOT, needs=(*_NEON, "asimddp"), family="aarch64"),
            Isa("neon-i8mm", "neoverse-v1", 4, 32, _USDOT, needs=(*_NEON, "asimddp", "i8mm"), family="aarch64"),
        )
    }
)
"""Instruction sets by name, of each architecture the oldest first."""


def newest_isa(architecture: str, features: Collection[str], model: str = "") -> Isa | None:
    """The newest instruction set of a processor, with all that it has beside; None where there are no kernels for it.

    Args:
        architecture: as ``uname -m`` prints it.
        features: as /proc/cpuinfo calls them.
        model: LLVM's name of the processor; empty for the oldest that has the instruction set.
    """
    fitting = [isa for isa in ISAS.values() if isa.family == architecture and set(isa.needs) <= set(features)]
    if not fitting:
        return None
    newest = fitting[-1]
    beside = [name for name in OPTIONAL if name in features and name not in newest.needs]
    return replace(newest, processor=model or newest.processor, needs=(*newest.needs, *beside))
