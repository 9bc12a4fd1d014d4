"""Programs for other processors, run by qemu in user mode.

The processor that is emulated has an instruction set and, where qemu knows such a one, nothing newer: code that uses
more ends there as it would end on the device.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import MappingProxyType

from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.errors import BackendError

EMULATED: Mapping[str, str] = MappingProxyType({"neon": "cortex-a72", "neon-dotprod": "cortex-a76", "neon-i8mm": "max"})
"""By instruction set the processor that stands for it where qemu does not know the very one."""


class Emulator:
    """qemu for one instruction set.

    Args:
        program: qemu.
        processor: that it emulates, by its name for it.
    """

    def __init__(self, program: str, processor: str) -> None:
        self.program, self.processor = program, processor

    @property
    def title(self) -> str:
        """What people call it."""
        return f"{Path(self.program).name} ({self.processor})"

    def start(self, arguments: Sequence[str | Path | int]) -> PipedProgram:
        """Run a program that answers requests; options of qemu come before it."""
        return PipedProgram([self.program, "-cpu", self.processor, *arguments], self.title)


def find_emulator(isa: Isa) -> Emulator | None:
    """What runs programs for an instruction set here; None where nothing does."""
    names = (f"qemu-{isa.family}-static", f"qemu-{isa.family}")
    program = next((path for name in names if (path := shutil.which(name))), None)
    if program is None or isa.name not in EMULATED:
        return None
    return Emulator(
        program, next(name for name in (isa.processor, EMULATED[isa.name], "max") if name in _known(program))
    )


class PipedProgram:
    """A program that reads requests from its standard input and writes answers to its standard output.

    It ends with its input, so that it does not outlive this process.

    Args:
        command: what is run.
        title: for messages.
    """

    def __init__(self, command: Sequence[str | Path | int], title: str) -> None:
        self._title = title
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        pipe = subprocess.PIPE
        self._process = subprocess.Popen([*map(str, command)], stdin=pipe, stdout=pipe, stderr=self._errors)
        self.close = weakref.finalize(self, _end, self._process)

    def ask(self, request: Sequence[bytes | memoryview], size: int) -> bytes:
        """Send the parts of a request, and wait for an answer of so many bytes.

        Raises:
            BackendError: the program ends before.
        """
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None
        assert answers is not None
        try:
            for part in request:
                requests.write(part)
            requests.flush()
        except BrokenPipeError:
            raise self._death() from None
        answer = answers.read(size)
        if len(answer) < size:
            raise self._death()
        return answer

    def _death(self) -> BackendError:
        code = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().decode("utf-8", "replace").strip()
        how = f"it ended with signal {signal.Signals(-code).name}" if code < 0 else f"it ended with code {code}"
        return BackendError(f"{how}: {said}" if said else how, where=self._title, fix="run it on its device")


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError):
        process.stdin.close()
    process.stdout.close()
    process.kill()
    process.wait()


@cache
def _known(program: str) -> frozenset[str]:
    """The processors that qemu knows."""
    listed = subprocess.run([program, "-cpu", "help"], capture_output=True, text=True, check=False).stdout
    return frozenset(listed.split())
