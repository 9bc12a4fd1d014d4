"""What of this machine decides what the backend can do here, in words: for `optimize doctor`."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from graphpress.backends.tvm.toolchain import HOST, find_c_toolchain
from graphpress.errors import BackendError
from graphpress.runtime.environment import library_versions

HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
BOARD_FAMILY = "aarch64"


def machine_facts() -> dict[str, str]:
    """By what each is about; of what is missing, how to get it."""
    return dict(_facts())


def _facts() -> Iterator[tuple[str, str]]:
    yield "C compiler", _c_compiler(HOST)
    yield "C compiler for boards", _c_compiler(f"{BOARD_FAMILY}-linux-gnu")
    yield "zig", library_versions(("ziglang",))["ziglang"] or 'not installed: pip install "graphpress[zig]"'
    yield "huge pages", _huge_pages()
    if find_spec("tvm") is not None:
        yield "instruction set", _instruction_set()
        yield "emulator of boards", _emulator()


def _c_compiler(triple: str) -> str:
    try:
        return find_c_toolchain(triple).title
    except BackendError as error:
        return f"none: {error.fix}"


def _instruction_set() -> str:
    from graphpress.backends.tvm.codegen.isa import ISAS
    from graphpress.backends.tvm.processor import runs_natively

    here = [isa.name for isa in ISAS.values() if runs_natively(isa)]
    return f"{here[-1]} (kernels for {', '.join(here)} run here)" if here else "none that there are kernels for"


def _emulator() -> str:
    from graphpress.backends.tvm.codegen.isa import ISAS
    from graphpress.backends.tvm.emulator import find_emulator

    boards = (find_emulator(isa) for isa in ISAS.values() if isa.family == BOARD_FAMILY)
    emulator = next((Path(found.program).name for found in boards if found is not None), None)
    return emulator or "none: install qemu-user-static; libraries for boards are compiled all the same, and not run"


def _huge_pages() -> str:
    """Weights in huge pages stream faster from memory; the runtime asks for them where the system gives some."""
    try:
        text = HUGE_PAGES.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return "unknown"
    setting = text.partition("[")[2].partition("]")[0]
    advice = f"off: echo madvise > {HUGE_PAGES}, as root, lets weights stream faster"
    return advice if setting == "never" else f"for weights ({setting})"
