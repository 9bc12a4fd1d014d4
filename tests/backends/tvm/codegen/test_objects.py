"""Objects reach the disk whole, or not at all with an error that says why."""

from __future__ import annotations

from pathlib import Path

import pytest
from kernel_checks.graphs import graph

from graphpress.backends.tvm.codegen import objects
from graphpress.backends.tvm.codegen.isa import ISAS
from graphpress.backends.tvm.kernels.kernel import function
from graphpress.backends.tvm.lowering.lower import lower

ISA = ISAS["avx2"]


@pytest.fixture(scope="module")
def functions():
    program = lower(graph("(float[4] x) => (float[4] y) {y = Relu(x)}"), ISA)
    return [function(step.kernel, ISA) for step in program.steps]


def test_they_are_elf_and_the_same_every_time(functions, tmp_path):
    for name in ("a.o", "b.o"):
        objects.write_object(functions, ISA, tmp_path / name)
    data = (tmp_path / "a.o").read_bytes()
    assert data.startswith(b"\x7fELF")
    assert data == (tmp_path / "b.o").read_bytes()


def test_a_full_disk_is_an_error_and_no_crash(functions):
    """LLVM, which writes to memory alone, would end the process."""
    with pytest.raises(OSError, match="No space left on device"):
        objects.write_object(functions, ISA, Path("/dev/full"))
