"""Kernels, compiled and called: what tests of this backend share."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

tvm = pytest.importorskip("tvm", reason="needs graphpress[tvm]")

from kernel_checks.harness import Kernels

from graphpress.backends.tvm.codegen.isa import ISAS, Isa
from graphpress.backends.tvm.codegen.objects import write_object
from graphpress.backends.tvm.kernels.kernel import Kernel, function, symbol
from graphpress.runtime.environment import cpu_flags

HERE = [isa for isa in ISAS.values() if isa.needs and cpu_flags().issuperset(isa.needs)]
"""Instruction sets of this processor, the newest last."""


@pytest.fixture(scope="session")
def here() -> list[Isa]:
    """All instruction sets of this processor, the newest last."""
    if not HERE:
        pytest.skip("needs a processor with AVX2")
    return HERE


@pytest.fixture
def newest(here: list[Isa]) -> Isa:
    """What the backend compiles for on this machine."""
    return here[-1]


@pytest.fixture(params=HERE or [None], ids=lambda isa: isa.name if isa else "none")
def isa(request: pytest.FixtureRequest) -> Isa:
    """Each instruction set that this processor has."""
    if request.param is None or shutil.which("cc") is None:
        pytest.skip("needs a processor with AVX2 and a C compiler")
    return request.param


@pytest.fixture
def compiled(isa: Isa, tmp_path: Path) -> Iterator[Callable[[Sequence[Kernel]], Kernels]]:
    """Compiles kernels for the instruction set of the test."""

    def compile_all(kernels: Sequence[Kernel]) -> Kernels:
        functions = {symbol(kernel, isa): function(kernel, isa) for kernel in kernels}
        write_object(list(functions.values()), isa, tmp_path / "kernels.o")
        subprocess.run(["cc", "-shared", "-o", "kernels.so", "kernels.o"], cwd=tmp_path, check=True)
        return Kernels(isa, ctypes.CDLL(str(tmp_path / "kernels.so")))

    return compile_all
