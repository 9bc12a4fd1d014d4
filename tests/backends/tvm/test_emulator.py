"""Programs in an emulator: what they answer, and how they end on a processor that lacks their instructions."""

from __future__ import annotations

import shutil

import pytest

pytest.importorskip("tvm", reason="needs graphpress[tvm]")

from graphpress.backends.tvm.codegen.isa import ISAS
from graphpress.backends.tvm.emulator import find_emulator
from graphpress.backends.tvm.toolchain import find_c_toolchain
from graphpress.errors import BackendError

ARM = "aarch64-linux-gnu"
ECHO = r"""
#include <stdio.h>
int main(int count, char **words) {
    int byte;
    fputs("says something", stderr);
    while ((byte = getchar()) != EOF) {
        if (count > 1) __asm__ volatile(".arch armv8.2-a+dotprod\n sdot v0.4s, v1.16b, v2.16b" ::: "v0");
        putchar(byte + 1);
        fflush(stdout);
    }
    return 3;
}
"""

pytestmark = pytest.mark.skipif(
    shutil.which(f"{ARM}-gcc") is None or find_emulator(ISAS["neon"]) is None,
    reason="needs gcc-aarch64-linux-gnu and qemu-user",
)


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """Adds one to each byte; with an argument, by the way of a dot product."""
    folder = tmp_path_factory.mktemp("program")
    (folder / "echo.c").write_text(ECHO)
    find_c_toolchain(ARM).run(["-O1", "-static", "-o", "echo", "echo.c"], folder)
    return folder / "echo"


def test_a_program_answers_one_request_after_another(program):
    running = find_emulator(ISAS["neon"]).start([program])
    assert [running.ask([b"a", b"bc"], 3), running.ask([b"x"], 1)] == [b"bcd", b"y"]


def test_instructions_that_the_processor_lacks_end_a_program(program):
    assert find_emulator(ISAS["neon-dotprod"]).start([program, "dot"]).ask([b"a"], 1) == b"b"
    running = find_emulator(ISAS["neon"]).start([program, "dot"])
    with pytest.raises(BackendError, match=r"cortex-a72.*SIGILL.*says something"):
        running.ask([b"a"], 1)


def test_the_emulated_processor_has_nothing_newer():
    models = {name: emulator.processor for name, isa in ISAS.items() if (emulator := find_emulator(isa)) is not None}
    assert models["neon"] == "cortex-a72"
    assert models["neon-dotprod"] == "cortex-a76"
    assert not models.keys() & {name for name, isa in ISAS.items() if isa.family == "x86_64"}
