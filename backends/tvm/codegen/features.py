"""What LLVM may use of a processor: instructions that a library says it needs, and no others.

The name of a processor stands for all that it has. Code for one with int8 products (``icelake-server``) would use what
others with the same products lack (Cascade Lake has no VBMI), and be killed there. So the name decides how instructions
are scheduled, and the needs which there are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from types import MappingProxyType

from tvm import target
from tvm.target import codegen

LLVM_FEATURES = MappingProxyType({"asimd": "neon", "asimddp": "dotprod", "abm": "lzcnt", "bmi1": "bmi"})
"""LLVM's names of features that are others than those of /proc/cpuinfo, but for underscores."""
OPTIONAL = ("bmi1", "bmi2", "avx512vbmi", "avx512_vbmi2")
"""Features, by their names in /proc/cpuinfo, that code is better with and that processors of one kind have or lack."""
OLDEST = MappingProxyType({"x86_64": "x86-64", "aarch64": "generic"})
"""By architecture LLVM's name of the processor that has nothing but what all have."""
EXTENSION = re.compile(
    r"avx.*|amx.*|apx.*|aes|bmi2?|complxnum|crc|dotprod|f16c|fma4?|flagm|fp16fml|fullfp16|gfni|i8mm|jsconv|lse2?|lzcnt"
    r"|bf16|movbe|movdir.*|pclmul|popcnt|rcpc.*|rdm|sha[23]?|sm[34e].*|sse4.*|ssse3|sve.*|tbm|vaes|vpclmulqdq|xop"
)
"""LLVM's names of instructions that compilers choose by themselves, or might some day."""


@cache
def llvm_attributes(family: str, processor: str, needs: Sequence[str]) -> tuple[str, ...]:
    """LLVM's switches of a target: off for what the processor has and nobody needs, on for what is needed."""
    needed = [f"+{LLVM_FEATURES.get(name, name.replace('_', ''))}" for name in needs]
    withheld = extensions(family, processor) - extensions(family, OLDEST[family], needed)
    return (*(f"-{name}" for name in sorted(withheld)), *needed)


def extensions(family: str, processor: str, attributes: Sequence[str] = ()) -> frozenset[str]:
    """The instructions beyond the oldest that LLVM would use, by its names."""
    options = {"kind": "llvm", "mcpu": processor, "mtriple": f"{family}-unknown-linux-gnu", "mattr": list(attributes)}
    names = map(str, codegen.llvm_get_cpu_features(target.Target(options)))
    return frozenset(name for name in names if EXTENSION.fullmatch(name))


@cache
def known_processors(family: str) -> frozenset[str]:
    """LLVM's names of the processors of an architecture."""
    generic = {"kind": "llvm", "mcpu": OLDEST[family], "mtriple": f"{family}-unknown-linux-gnu"}
    return frozenset(map(str, codegen.llvm_get_cpu_archlist(target.Target(generic))))
