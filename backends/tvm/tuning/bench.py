"""Kernels against each other: processor time of one thread, turn and turn about.

What else runs on the machine disturbs the time of a clock on the wall more than that of a processor, and all variants
of a kernel alike, as they take turns. Weights come from beyond the second-level cache, as they do in a model: there are
so many copies of them that none is read twice soon. A thread computes what would be its share of the tasks.
"""

from __future__ import annotations

import ctypes
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.kernels.kernel import Kernel, sizes_of, symbol
from graphpress.backends.tvm.object_files import write_objects
from graphpress.backends.tvm.plan import ALIGNMENT
from graphpress.backends.tvm.program import Constant, Source, Step
from graphpress.backends.tvm.toolchain import find_c_toolchain
from graphpress.cache import NO_CACHE
from graphpress.scratch import scratch_folder

COLD = 16 << 20
"""Bytes that no second-level cache holds."""
SLACK = 4096
"""Bytes before and behind an operand that kernels may read."""
WEIGHTS = "weights"
"""Name of the operand that is cold."""
LIBRARY = "variants.so"
SHORTEST = 200_000
"""Nanoseconds that a turn takes at least."""
TURNS, TRIAL = 9, 3
"""How often each variant is timed; after so many turns those that are clearly slower drop out."""
CLEARLY = 1.15
NOISE = 1.01
"""What is not faster than the first by as much is no faster."""


@dataclass(frozen=True)
class ColdOperand:
    """Memory of an operand, in copies that are used in turn.

    Args:
        memory: all of them.
        start: bytes before the first.
        stride: bytes from one to the next.
        copies: how many there are.
    """

    memory: np.ndarray
    start: int
    stride: int
    copies: int

    @staticmethod
    def like(source: Source, *, cold: bool) -> ColdOperand:
        """As large as what a step reads or writes; numbers are 1, which takes no longer than others."""
        dtype, elements = _extent(source)
        stride = -(-(elements * dtype.itemsize + SLACK) // ALIGNMENT) * ALIGNMENT
        copies = -(-COLD // stride) if cold else 1
        memory = np.ones((copies * stride + 2 * SLACK) // dtype.itemsize, dtype)
        return ColdOperand(memory, SLACK + -memory.ctypes.data % ALIGNMENT, stride, copies)

    def address(self, turn: int) -> int:
        """Of the copy whose turn it is."""
        return int(self.memory.ctypes.data) + self.start + turn % self.copies * self.stride


@dataclass
class Contestant:
    """A variant of a kernel that is timed.

    Args:
        kernel: the variant.
        compute: its C function.
        tasks: of a thread.
        calls: of one turn.
        turns: nanoseconds of a call, by turn.
    """

    kernel: Kernel
    compute: Callable[..., None]
    tasks: int
    calls: int = 1
    turns: list[float] = field(default_factory=list)

    @property
    def sizes(self) -> list[int]:
        """The largest."""
        return [size.maximum for size in sizes_of(self.kernel)]

    @property
    def nanoseconds(self) -> float:
        """Of a call."""
        return median(self.turns)

    def run(self, operands: Sequence[ColdOperand], first: int) -> float:
        """Nanoseconds of a call; ``first`` says which copies the first one uses."""
        began = time.thread_time_ns()
        for turn in range(first, first + self.calls):
            self.compute(*(operand.address(turn) for operand in operands), *self.sizes, 0, self.tasks)
        return (time.thread_time_ns() - began) / self.calls


def fastest(step: Step, variants: Sequence[Kernel], isa: Isa, threads: int) -> Kernel:
    """The fastest variant of a step's kernel; the first, where none is clearly faster.

    Args:
        step: says what the operands are.
        variants: of its kernel.
        isa: of this machine.
        threads: among which tasks are shared.
    """
    operands = [
        ColdOperand.like(step.operands[operand.name], cold=operand.name == WEIGHTS) for operand in step.kernel.operands
    ]
    functions = _compiled(variants, isa)
    tasks = [-(-step.images * kernel.tasks(isa) // threads) for kernel in variants]
    contestants = [Contestant(*each) for each in zip(variants, functions, tasks, strict=True)]
    _compete(contestants, operands)
    best = min(contestants, key=lambda contestant: contestant.nanoseconds)
    return best.kernel if best.nanoseconds * NOISE < contestants[0].nanoseconds else contestants[0].kernel


def _compete(contestants: Sequence[Contestant], operands: Sequence[ColdOperand]) -> None:
    """Time all of them in turn."""
    count = itertools.count()
    for contestant in contestants:
        contestant.run(operands, next(count))
        contestant.calls = max(1, round(SHORTEST / max(contestant.run(operands, next(count)), 1.0)))
    left = list(contestants)
    for turn in range(TURNS):
        for contestant in left:
            contestant.turns.append(contestant.run(operands, next(count) * contestant.calls))
        if turn >= TRIAL:
            limit = CLEARLY * min(contestant.nanoseconds for contestant in left)
            left = [contestant for contestant in left if contestant.nanoseconds <= limit]


def _compiled(variants: Sequence[Kernel], isa: Isa) -> list[Callable[..., None]]:
    """The C functions of kernels."""
    names = {symbol(kernel, isa): kernel for kernel in variants}
    with scratch_folder() as folder:
        objects = [file.name for file in write_objects(names, isa, folder, NO_CACHE)]
        find_c_toolchain(isa.triple).run(["-shared", "-o", LIBRARY, *objects], folder)
        library = ctypes.CDLL(str(folder / LIBRARY))  # stays when its file goes
    pointers = [ctypes.c_void_p] * len(variants[0].operands)
    numbers = [ctypes.c_int32] * (len(sizes_of(variants[0])) + 2)
    functions = [getattr(library, name) for name in names]
    for function in functions:
        function.argtypes, function.restype = [*pointers, *numbers], None
    return functions


def _extent(source: Source) -> tuple[np.dtype[Any], int]:
    """Type and number of an operand's elements."""
    if isinstance(source, Constant):
        return source.array.dtype, source.array.size
    return np.dtype(source.plane.dtype), source.images * source.plane.size
