"""What a kernel is.

    void NAME(const A *a, const B *b, …, R *result, int32_t size, …, int32_t first, int32_t last)

computes the tasks from ``first`` up to ``last``. Tasks are independent: whoever runs a kernel shares them among threads
as it likes. An image has a fixed number of tasks, or one that follows from the run's sizes, and the tasks of an image
follow those of the one before: how many images there are is nothing that the code knows.

Where extents are known at run time only, the sizes of the run come after the operands. Memory is laid out for the
largest, and what lies behind the run's own extents is nobody's: it may be written, and is read for results that are
nobody's either. So a kernel is right for all sizes if it sums over no open extent, or ends its sums where the run does
(``takes_open``); its ``task_grid`` tells which tasks there are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import NamedTuple, Protocol

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder, Memory
from graphpress.backends.tvm.codegen.extent import RunTimeSize, extents_in, is_open
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.runtime.environment import library_versions

FIRST, LAST = "first", "last"
LARGEST_SLACK = 4096
"""Bytes that may be read behind the last constant and the last buffer, as the runtime has it."""
GENERATOR = ("apache-tvm", "apache-tvm-ffi")
"""Distributions that turn loops into machine code."""
PACKAGES = ("codegen", "kernels")
"""Whose sources decide what the code of a kernel is."""


class Pointer(NamedTuple):
    """A pointer that a kernel takes: its name, and the type of what it points to."""

    name: str
    dtype: str


class Kernel(Protocol):
    """Everything that decides the code of a kernel, as a frozen dataclass."""

    @property
    def operands(self) -> Sequence[Pointer]:
        """What it reads, then what it writes."""
        ...

    def tasks(self, isa: Isa) -> int:
        """How many tasks an image has."""
        ...

    def task(self, b: KernelBuilder, isa: Isa, memory: dict[str, Memory], task: Expr) -> None:
        """Emit what one task does.

        Args:
            b: where to.
            isa: for what.
            memory: what the operands point to, by name.
            task: its number, counted through all images.
        """
        ...


@cache
def code_version() -> str:
    """Of all that makes the code of kernels, sources and TVM: what another version compiled or timed is not used."""
    digest = hashlib.sha256(repr(library_versions(GENERATOR)).encode())
    for package in PACKAGES:
        for file in sorted(resources.files(f"graphpress.backends.tvm.{package}").iterdir(), key=lambda file: file.name):
            if file.name.endswith(".py"):
                digest.update(file.read_bytes())
    return digest.hexdigest()


def slack_of(kernel: Kernel) -> int:
    """Bytes that a kernel may read behind the end of an operand (its ``slack``, where it has one)."""
    slack: int = getattr(kernel, "slack", 0)
    assert slack <= LARGEST_SLACK
    return slack


def title(kernel: Kernel) -> str:
    """What people call its kind: the name of its type, or of that which it stands for (its ``title``)."""
    name: str = getattr(kernel, "title", type(kernel).__name__)
    return name


def sizes_of(kernel: Kernel) -> list[RunTimeSize]:
    """The sizes of a run that a kernel takes, in the order of its parameters."""
    return sorted({size for extent in extents_in(kernel) for size in extent.sizes})


def takes_open(kernel: Kernel) -> bool:
    """Whether a kernel is right for all sizes of a run (its ``takes_open``, where extents are open)."""
    return not sizes_of(kernel) or bool(getattr(kernel, "takes_open", False))


def grid_of(kernel: Kernel, isa: Isa) -> Sequence[int]:
    """The extents that the tasks of an image are numbered by, the slowest first (its ``task_grid``)."""
    grid = getattr(kernel, "task_grid", None)
    return (kernel.tasks(isa),) if grid is None else grid(isa)


def symbol(kernel: Kernel, isa: Isa) -> str:
    """A C name that no other kernel has."""
    content = f"{code_version()} {isa!r} {kernel!r}"
    return f"{title(kernel).lower()}_{hashlib.sha256(content.encode()).hexdigest()[:16]}"


def function(kernel: Kernel, isa: Isa) -> Expr:
    """The kernel as TIR, under its ``symbol``."""
    b = KernelBuilder()
    memory = {operand.name: b.pointer(*operand) for operand in kernel.operands}
    first, last = b.scalar(FIRST), b.scalar(LAST)
    with b.loop(last - first, "task", first) as task:
        kernel.task(b, isa, memory, _number_in_layout(b, task, grid_of(kernel, isa)))
    pointers = [memory[operand.name].parameter for operand in kernel.operands]
    sizes = [b.size(size) for size in sizes_of(kernel)]
    return b.function(symbol(kernel, isa), [*pointers, *sizes, first, last], isa.target)


def _number_in_layout(b: KernelBuilder, task: Expr, grid: Sequence[int]) -> Expr:
    """The number that a task has where all extents are the largest, as memory is laid out."""
    if not is_open(grid):
        return task
    number, step = 0, 1
    for extent in reversed(grid):
        run = b.value(extent)
        number, task = number + task % run * step, b.let(task // run)
        step *= int(extent)
    return b.let(number + task * step)
