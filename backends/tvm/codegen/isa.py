"""Instruction sets: how wide vectors are, and how integers are multiplied (``dots``), rounded and narrowed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from tvm import target, tirx

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder, Memory
from graphpress.backends.tvm.codegen.dots import Dot, FourByteDot, MaddubsDot, WideningDot
from graphpress.backends.tvm.codegen.features import OPTIONAL, llvm_attributes
from graphpress.backends.tvm.codegen.lookup import GATHERED, Lookup, NibbleLookup, WordLookup
from graphpress.backends.tvm.codegen.matrix_dot import MatrixDot
from graphpress.backends.tvm.codegen.narrowing import HalvingNarrowing, Narrowing, PackedNarrowing
from graphpress.backends.tvm.codegen.vectors import clamped, splat, typed


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
        matrix_dot: integer products of two pixels at once; None where there is no such instruction.
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
    matrix_dot: MatrixDot | None = None

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
_ROUND_128 = "llvm.aarch64.neon.fcvtns.v4i32.v4f32"
_ROUND_512 = "llvm.x86.avx512.mask.cvtps2dq.512"
_LOOKUP_512 = "llvm.x86.avx512.permvar.sf.512"
_ROUND_256 = "llvm.x86.avx.cvt.ps2dq.256"
_NARROW_256 = PackedNarrowing("llvm.x86.avx2.packssdw", "llvm.x86.avx2.packuswb")
_NARROW_512 = PackedNarrowing("llvm.x86.avx512.packssdw.512", "llvm.x86.avx512.packuswb.512")
_BYTES_256 = NibbleLookup(32, "llvm.x86.avx2.pshuf.b", "llvm.uadd.sat.v32i8")
_BYTES_512 = WordLookup(64, "llvm.x86.avx512.vpermi2var.hi.512")
_MADD_256 = MaddubsDot("llvm.x86.avx2.pmadd.ub.sw", "llvm.x86.avx2.pmadd.wd")
_MADD_512 = MaddubsDot("llvm.x86.avx512.pmaddubs.w.512", "llvm.x86.avx512.pmaddw.d.512")
_VNNI_256 = FourByteDot("uint8", "llvm.x86.avx512.vpdpbusd.256")
_VNNI_512 = FourByteDot("uint8", "llvm.x86.avx512.vpdpbusd.512")
_SDOT = FourByteDot("int8", "llvm.aarch64.neon.sdot.v4i32.v16i8", weights_first=True, together=4)
_NARROW_S128 = HalvingNarrowing("llvm.aarch64.neon.sqxtn.v8i8", "int8")
_NARROW_U128 = HalvingNarrowing("llvm.aarch64.neon.sqxtun.v8i8", "uint8")
_USMMLA = MatrixDot("llvm.aarch64.neon.usmmla.v4i32.v16i8")
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
            Isa("neon", "cortex-a72", 4, 32, WideningDot(), _NARROW_S128, _ROUND_128, needs=_NEON, family="aarch64"),
            Isa(
                "neon-dotprod",
                "cortex-a76",
                4,
                32,
                _SDOT,
                _NARROW_S128,
                _ROUND_128,
                needs=(*_NEON, "asimddp"),
                family="aarch64",
            ),
            Isa(
                "neon-i8mm",
                "neoverse-v1",
                4,
                32,
                _USDOT,
                _NARROW_U128,
                _ROUND_128,
                needs=(*_NEON, "asimddp", "i8mm"),
                family="aarch64",
                matrix_dot=_USMMLA,
            ),
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
