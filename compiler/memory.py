"""How much memory the machine lets this process have, and blocks that may take only so much of it."""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import resource
except ImportError:  # not on every operating system
    resource = None  # type: ignore[assignment]

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")


def available_memory() -> int | None:
    """Bytes that this process can still have: of the machine, of its container, of its own limit.

    Returns:
        The least of these; None where the system tells nothing.
    """
    figures = (_of_machine(), *_of_containers(), _of_process())
    return min((figure for figure in figures if figure is not None), default=None)


def in_gigabytes(count: float) -> str:
    """A number of bytes for a message.

    >>> in_gigabytes(6_123_456_789)
    '6.1 GB'
    """
    return f"{count / 1e9:,.1f} GB"


@contextmanager
def memory_budget(most: int) -> Iterator[None]:
    """Let the block take about so many bytes beyond what the process has, for libraries that know no bound themselves.

    The bound is that of the whole process: other threads share it for as long as the block runs. Where the system has
    no such bound (only Linux enforces it), the block runs without.

    Raises:
        MemoryError: the block wanted more.
    """
    used = _address_space()
    if resource is None or used is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    bound = used + most if soft == resource.RLIM_INFINITY else min(soft, used + most)
    resource.setrlimit(resource.RLIMIT_AS, (bound, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def give_back_memory() -> None:
    """Let the system have what nobody holds any more.

    Graphs are circular, and keep their tensors until they are collected; the C library keeps what was freed, in
    fragments that add up over many small sessions.
    """
    gc.collect()
    with suppress(OSError, AttributeError):  # only the GNU C library can be asked to
        ctypes.CDLL(None).malloc_trim(0)


def _of_machine() -> int | None:
    """Free memory, and what the kernel can free; swap too."""
    fields = {}
    for line in _lines(_PROC / "meminfo"):
        name, _, rest = line.partition(":")
        fields[name] = 1024 * int(rest.split()[0])
    return fields["MemAvailable"] + fields.get("SwapFree", 0) if "MemAvailable" in fields else None


def _of_containers() -> Iterator[int]:
    """What each control group around this process leaves, of either version."""
    for line in _lines(_PROC / "self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            root = _CGROUPS / controllers
            group = root / path.lstrip("/")
            names = ("memory.max", "memory.current") if not controllers else _NAMES_OF_VERSION_1
            for folder in (group, *group.parents):
                if folder.is_relative_to(root):
                    yield from _left_in(folder, *names)


_NAMES_OF_VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes")


def _left_in(group: Path, limit: str, used: str) -> Iterator[int]:
    with suppress(OSError, ValueError):  # the group has no limit ("max"), or lies outside of what the container shows
        statistics = dict(line.split() for line in _lines(group / "memory.stat"))
        cached = int(statistics.get("inactive_file", 0))
        yield max(0, int((group / limit).read_text()) - int((group / used).read_text()) + cached)


def _of_process() -> int | None:
    if resource is None or (used := _address_space()) is None:
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY else max(0, soft - used)


def _address_space() -> int | None:
    """Bytes of address space in use."""
    pages = next(iter(_lines(_PROC / "self/statm")), "").split()
    return int(pages[0]) * os.sysconf("SC_PAGE_SIZE") if pages else None


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
