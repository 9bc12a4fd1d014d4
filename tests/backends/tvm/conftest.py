"""Kernels, compiled and called: what tests of this backend share."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from functools import cache
from importlib import resources
from pathlib import Path

import pytest

tvm = pytest.importorskip("tvm", reason="needs graphpress[tvm]")

from kernel_checks.harness import Call, Kernels, emulated_calls, native_calls

from graphpress.backends.tvm.codegen.isa import ISAS, Isa
from graphpress.backends.tvm.codegen.objects import write_object
from graphpress.backends.tvm.emulator import find_emulator
from graphpress.backends.tvm.kernels.kernel import Kernel, function, symbol
from graphpress.backends.tvm.processor import runs_natively
from graphpress.backends.tvm.toolchain import find_c_toolchain

HERE = [isa for isa in ISAS.values() if runs_natively(isa)]
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


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test of ``isa`` runs for each; what floats alone decide is the same code for all of a width (``floats``)."""
    marks = metafunc.definition.iter_markers("parametrize")
    if "isa" in metafunc.fixturenames and not any("isa" in mark.args[0] for mark in marks):
        widths = {(isa.family, isa.lanes): isa for isa in ISAS.values()}
        isas = widths.values() if metafunc.definition.get_closest_marker("floats") else ISAS.values()
        metafunc.parametrize("isa", isas, ids=[isa.name for isa in isas], indirect=True)


@pytest.fixture
def isa(request: pytest.FixtureRequest) -> Isa:
    """Each instruction set that this processor has, or an emulator."""
    isa: Isa = request.param
    if isa not in HERE and find_emulator(isa) is None:
        pytest.skip(f"needs a processor with {isa.name}, or qemu-user")
    if shutil.which(f"{isa.triple}-gcc") is None:
        pytest.skip(f"needs a C compiler for {isa.triple}")
    return isa


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Isa], Path]:
    """The program that calls kernels in an emulator, one for each architecture."""
    source = Path(str(resources.files("kernel_checks") / "server.c"))
    folder = tmp_path_factory.mktemp("servers")

    @cache
    def server(triple: str) -> Path:
        find_c_toolchain(triple).run(["-O1", "-w", "-o", triple, source, "-ldl"], folder)
        return folder / triple

    return lambda isa: server(isa.triple)


@pytest.fixture(params=HERE, ids=lambda isa: isa.name)
def native_isa(request: pytest.FixtureRequest) -> Isa:
    """Each instruction set that this processor has."""
    isa: Isa = request.param
    return isa


@pytest.fixture
def compiled(isa: Isa, tmp_path: Path, servers: Callable[[Isa], Path]) -> Callable[[Sequence[Kernel]], Kernels]:
    """Compiles kernels for the instruction set of the test."""

    def compile_all(kernels: Sequence[Kernel]) -> Kernels:
        functions = {symbol(kernel, isa): function(kernel, isa) for kernel in kernels}
        write_object(list(functions.values()), isa, tmp_path / "kernels.o")
        find_c_toolchain(isa.triple).run(["-shared", "-o", "kernels.so", "kernels.o"], tmp_path)
        return Kernels(isa, calls(tmp_path / "kernels.so"))

    def calls(library: Path) -> Call:
        emulator = None if isa in HERE else find_emulator(isa)
        if emulator is None:
            return native_calls(library)
        return emulated_calls(emulator.start(["-L", f"/usr/{isa.triple}", servers(isa)]), library)

    return compile_all
