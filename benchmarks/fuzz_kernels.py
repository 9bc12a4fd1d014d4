"""Kernels of random shapes against numpy: integers bit for bit, floats within rounding.

    python benchmarks/fuzz_kernels.py --minutes 10 [--kinds product depthwise] [--isas avx2] [--start 1000]

Convolutions and products of all tiles, depthwise convolutions in all ways, pools and elementwise work: strides,
dilations, groups, halos, zero-points, rests of tiles and of vectors, batches. A case is known by kind, instruction set
and seed; a line is printed for each that fails, and the exit code is 1 where there is one.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from itertools import count
from pathlib import Path

# In place of this folder, whose tensorrt.py would hide NVIDIA's package.
sys.path[0] = str(Path(__file__).resolve().parents[1] / "tests" / "backends" / "tvm" / "support")

from kernel_checks.cases import WIDE, KernelCase  # noqa: E402
from kernel_checks.harness import Kernels, native_calls  # noqa: E402
from kernel_checks.random_cases import KINDS, random_case  # noqa: E402

from graphpress.backends.tvm.codegen.isa import ISAS, Isa  # noqa: E402
from graphpress.backends.tvm.kernels.kernel import symbol  # noqa: E402
from graphpress.backends.tvm.object_files import write_objects  # noqa: E402
from graphpress.backends.tvm.processor import runs_natively  # noqa: E402
from graphpress.backends.tvm.toolchain import find_c_toolchain  # noqa: E402
from graphpress.cache import NO_CACHE  # noqa: E402

BATCH = 16
"""Cases that share a library."""


def compiled(cases: list[KernelCase], isa: Isa) -> Kernels:
    """All kernels of some cases."""
    kernels = {symbol(kernel, isa): kernel for case in cases for kernel in case.kernels}
    with tempfile.TemporaryDirectory() as folder:
        objects = write_objects(kernels, isa, Path(folder), NO_CACHE)
        arguments = ["-shared", "-o", "kernels.so", *(file.name for file in objects)]
        find_c_toolchain(isa.triple).run(arguments, Path(folder))
        return Kernels(isa, native_calls(Path(folder) / "kernels.so"))


def failures(kind: str, isa: Isa, seeds: range) -> list[str]:
    """What went wrong, a line each."""
    cases = [random_case(kind, isa, seed, WIDE) for seed in seeds]
    kernels, lines = compiled(cases, isa), []
    for seed, case in zip(seeds, cases, strict=True):
        try:
            case.check(kernels)
        except AssertionError as error:
            lines.append(f"{kind} {isa.name} {seed}: {' '.join(str(error).split())[:200]} {case.kernels[0]!r}")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    here = [isa.name for isa in ISAS.values() if runs_natively(isa)]
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--isas", nargs="+", choices=here, default=here)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=1.0)
    given = parser.parse_args()
    end, done, wrong = time.monotonic() + 60 * given.minutes, 0, 0
    for start in count(given.start, BATCH):
        for kind in given.kinds:
            for name in given.isas:
                if time.monotonic() > end:
                    print(f"{done} cases, {wrong} wrong")
                    return int(wrong > 0)
                lines = failures(kind, ISAS[name], range(start, start + BATCH))
                print("".join(f"{line}\n" for line in lines), end="", flush=True)
                done, wrong = done + BATCH, wrong + len(lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
