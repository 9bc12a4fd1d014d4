"""Kernels that differ in numbers alone, such as zero-points, share their code: it reads the numbers when it runs.

A field whose metadata is ``number_of(dtype)`` holds such a number, or a tuple of them; one whose metadata is ``WITHIN``
something that has such fields. ``shared`` takes the numbers out. A zero stays: code without it is shorter.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from tvm import tirx

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder, Memory
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.codegen.vectors import FLOAT
from graphpress.backends.tvm.kernels.kernel import Kernel, Pointer, grid_of, slack_of

NUMBERS = "numbers"
"""Name of the operand that holds the numbers of a kernel: int32, or the bits of float32."""
KEY = "number"
WITHIN: Mapping[str, str] = MappingProxyType({KEY: ""})


def number_of(dtype: str) -> Mapping[str, str]:
    """The metadata of a field whose number the code takes as of a type: ``int32`` or ``float32``."""
    return MappingProxyType({KEY: dtype})


@dataclass(frozen=True)
class Number:
    """Stands for a number of the operand.

    Args:
        place: of the number.
        dtype: of it.
    """

    place: int
    dtype: str

    def read(self, b: KernelBuilder, numbers: Memory) -> Expr:
        """Load it."""
        bits = b.load(numbers, self.place)
        return bits if self.dtype == numbers.dtype else tirx.reinterpret(self.dtype, bits)


@dataclass(frozen=True)
class SharedCode:
    """A kernel that reads its numbers.

    Args:
        kernel: with a ``Number`` for each.
    """

    kernel: Kernel

    @property
    def slack(self) -> int:
        """As the kernel has it."""
        return slack_of(self.kernel)

    @property
    def title(self) -> str:
        """What its symbol begins with."""
        return type(self.kernel).__name__

    @property
    def operands(self) -> Sequence[Pointer]:
        """Those of the kernel, and the numbers in front of the result."""
        *reads, result = self.kernel.operands
        return [*reads, Pointer(NUMBERS, "int32"), result]

    def tasks(self, isa: Isa) -> int:
        """As the kernel has them."""
        return self.kernel.tasks(isa)

    def task_grid(self, isa: Isa) -> Sequence[int]:
        """As the kernel has it."""
        return grid_of(self.kernel, isa)

    def task(self, b: KernelBuilder, isa: Isa, memory: dict[str, Memory], task: Expr) -> None:
        """What the kernel does, with the numbers as they are read."""

        def read(leaf: Any, dtype: str) -> Any:
            return leaf.read(b, memory[NUMBERS]) if isinstance(leaf, Number) else leaf

        _with_numbers(self.kernel, read).task(b, isa, memory, task)


def shared(kernel: Kernel) -> tuple[Kernel, np.ndarray]:
    """A kernel that reads its numbers, and the numbers; the kernel itself where it has none."""
    numbers: list[int] = []

    def take(leaf: Any, dtype: str) -> Any:
        if not leaf:
            return leaf
        numbers.append(_bits(leaf) if dtype == FLOAT else leaf)
        return Number(len(numbers) - 1, dtype)

    abstract = _with_numbers(kernel, take)
    return SharedCode(abstract) if numbers else kernel, np.array(numbers, np.int32)


def _bits(number: float) -> int:
    bits: int = struct.unpack("<i", struct.pack("<f", number))[0]
    return bits


def _with_numbers(value: Any, leaf: Callable[[Any, str], Any], dtype: str = "") -> Any:
    """A copy whose numbers are others, in the order of the fields."""
    if isinstance(value, tuple):
        return tuple(_with_numbers(each, leaf, dtype) for each in value)
    if is_dataclass(value) and not isinstance(value, (type, Number)):
        marked = [field for field in fields(value) if KEY in field.metadata]
        return replace(
            value,
            **{field.name: _with_numbers(getattr(value, field.name), leaf, field.metadata[KEY]) for field in marked},
        )
    return leaf(value, dtype)
