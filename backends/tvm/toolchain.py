"""Who compiles C and links: the system's compiler where there is one, else zig's, which compiles for every machine.

For this machine that is ``$CC``, then ``cc``, ``gcc``, ``clang``; for others their ``TRIPLE-gcc``. The package
``ziglang`` is the last resort: it brings the C libraries of all systems along.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from graphpress.errors import BackendError, ResourceError, reraise_resource_fault

HOST = f"{platform.machine()}-linux-gnu"
"""The triple of this machine."""
OLDEST_GLIBC = "2.17"
"""What libraries that zig links need at least: of the year 2012."""
LAST_LINES = 8
"""Of what a compiler says, those that an error quotes."""


@dataclass(frozen=True)
class CToolchain:
    """A C compiler that also links.

    Args:
        triple: of the machine that it compiles for, such as ``aarch64-linux-gnu``.
        command: the program, with the arguments that each call begins with.
    """

    triple: str
    command: tuple[str, ...]

    @property
    def title(self) -> str:
        """What people call it."""
        return f"zig cc for {self.triple}" if "ziglang" in self.command else Path(self.command[0]).name

    @property
    def links_statically(self) -> bool:
        """Whether it links programs that need nothing of their machine: zig has glibc as a shared library alone."""
        return "ziglang" not in self.command

    def run(self, arguments: Sequence[str | Path], folder: Path) -> None:
        """Compile or link.

        Args:
            arguments: options and files.
            folder: in which it runs.

        Raises:
            BackendError: it fails; the message quotes the end of what it says.
            ResourceError: it lacks memory or space.
        """
        self._call([*self.command, *map(str, arguments)], folder)

    def archive(self, name: str, objects: Sequence[str | Path], folder: Path) -> None:
        """Pack objects into a static library.

        Args:
            name: of the file that is written.
            objects: files.
            folder: in which they lie.

        Raises:
            BackendError, ResourceError: as for ``run``.
        """
        self._call([*self._archiver(folder), "rcsD", name, *map(str, objects)], folder)

    def _archiver(self, folder: Path) -> list[str]:
        """The compiler's own: one of another system knows other files."""
        if "ziglang" in self.command:
            return [*self.command[: self.command.index("ziglang") + 1], "ar"]
        return [self._call([*self.command, "-print-prog-name=ar"], folder).strip() or "ar"]

    def _call(self, command: Sequence[str], folder: Path) -> str:
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                env={**os.environ, "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
            )
        except OSError as error:
            reraise_resource_fault(error, where=self.title)
            raise BackendError(f"cannot be run: {error.strerror}", where=self.title, fix=_fix(self.triple)) from error
        if done.returncode:
            raise self._failure(done)
        return done.stdout

    def _failure(self, done: subprocess.CompletedProcess[str]) -> BackendError | ResourceError:
        how = f"was killed by signal {-done.returncode}" if done.returncode < 0 else f"failed (code {done.returncode})"
        said = "; ".join(done.stdout.strip().splitlines()[-LAST_LINES:])
        what = f"{how}: {said}" if said else f"{how} and says nothing"
        try:
            reraise_resource_fault(RuntimeError(done.stdout), where=self.title)
        except ResourceError as fault:
            return fault
        return BackendError(what, where=self.title, fix="try another compiler: the environment variable CC names one")


def find_c_toolchain(triple: str = HOST) -> CToolchain:
    """The compiler for a machine.

    Args:
        triple: of the machine; that of the one at hand by default.

    Raises:
        BackendError: there is none, or ``$CC`` names one that is not there.
    """
    command = next(_commands(triple), None)
    if command is None:
        raise BackendError(f"there is no C compiler for {triple}", where="tvm", fix=_fix(triple))
    return CToolchain(triple, command)


def _commands(triple: str) -> Iterator[tuple[str, ...]]:
    """Commands that are there, the preferred first."""
    if triple == HOST and (named := shlex.split(os.environ.get("CC", ""))):
        if shutil.which(named[0]) is None:
            what = f"the environment variable CC names {named[0]!r}, which is not there"
            raise BackendError(what, where="tvm", fix="let it name a C compiler, or unset it")
        yield tuple(named)
    names = ("cc", "gcc", "clang") if triple == HOST else (f"{triple}-gcc",)
    yield from ((name,) for name in names if shutil.which(name) is not None)
    if find_spec("ziglang") is not None:
        yield (sys.executable, "-m", "ziglang", "cc", "-target", _zig_target(triple))


def _zig_target(triple: str) -> str:
    return f"{triple}.{OLDEST_GLIBC}" if triple.endswith("-gnu") and "-linux-" in triple else triple


def _fix(triple: str) -> str:
    package = "gcc" if triple == HOST else f"gcc-{triple.replace('_', '-')}"
    return f"install {package}, or: pip install ziglang"
