"""Compiled kernels, and images in planes."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.emulator import PipedProgram
from graphpress.backends.tvm.kernels.kernel import Kernel, slack_of, symbol
from graphpress.backends.tvm.kernels.plane import Plane

PAGE = mmap.PAGESIZE
_protect = ctypes.CDLL(None).mprotect
_protect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int


def guarded(array: np.ndarray, slack: int, *, at_end: bool) -> np.ndarray:
    """A copy of an array between pages that nobody may touch.

    Args:
        array: anything.
        slack: bytes that may be read behind it.
        at_end: whether it lies at the end of its pages; else it lies at their start.
    """
    size = array.nbytes + slack
    pages = -(-max(size, 1) // PAGE) * PAGE
    memory = mmap.mmap(-1, pages + 2 * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    room = np.frombuffer(memory, np.uint8)
    for guard in (0, PAGE + pages):
        assert not _protect(room.ctypes.data + guard, PAGE, 0)
    start = PAGE + (pages - size if at_end else 0)
    copy = room[start : start + array.nbytes].view(array.dtype)
    copy[:] = array.reshape(-1)
    return copy


Call = Callable[[str, Sequence[np.ndarray], int, int], None]
"""Calls a kernel: its symbol, its operands of which it writes the last, and its tasks."""


def native_calls(library: Path) -> Call:
    """Calls the kernels of a library in this process."""
    loaded = ctypes.CDLL(str(library))

    def call(name: str, operands: Sequence[np.ndarray], first: int, last: int) -> None:
        getattr(loaded, name)(*(ctypes.c_void_p(operand.ctypes.data) for operand in operands), first, last)

    return call


def emulated_calls(server: PipedProgram, library: Path) -> Call:
    """Calls the kernels of a library in ``server.c``, which runs in an emulator."""

    def call(name: str, operands: Sequence[np.ndarray], first: int, last: int) -> None:
        names = [text.encode() for text in (str(library), name)]
        head = np.array([*map(len, names), len(operands), first, last], np.int32)
        sizes = np.array([operand.nbytes for operand in operands], np.int64)
        answer = server.ask([head.data, *names, sizes.data, *(each.data for each in operands)], int(sizes[-1]))
        operands[-1][:] = np.frombuffer(answer, operands[-1].dtype)

    return call


@dataclass
class Kernels:
    """Compiled kernels."""

    isa: Isa
    call: Call

    def run(self, kernel: Kernel, images: int, result: np.ndarray, **operands: np.ndarray) -> np.ndarray:
        """Compute all tasks into a copy of ``result``, in two calls, between two kinds of borders."""
        tasks, name = images * kernel.tasks(self.isa), symbol(kernel, self.isa)
        results = []
        for at_end in (False, True):
            arrays = [operands[operand.name].astype(operand.dtype) for operand in kernel.operands[:-1]]
            arrays.append(result.astype(kernel.operands[-1].dtype))
            arrays = [guarded(array, slack_of(kernel), at_end=at_end) for array in arrays]
            for first, last in ((tasks // 2, tasks), (0, tasks // 2)):  # tasks are independent
                self.call(name, arrays, first, last)
            results.append(arrays[-1].reshape(result.shape))
        np.testing.assert_array_equal(*results)
        return results[0]


@dataclass
class Images:
    """A batch of images in a plane.

    Args:
        plane: its layout.
        memory: the whole, ``[images, rows, pixels, stride]`` with the halo.
    """

    plane: Plane
    memory: np.ndarray

    @staticmethod
    def filled(plane: Plane, images: int, fill: float) -> Images:
        """All elements are the same."""
        halo = plane.halo
        shape = (images, plane.height + halo.top + halo.bottom, plane.row_pixels, plane.stride)
        return Images(plane, np.full(shape, fill, plane.dtype))

    @staticmethod
    def random(plane: Plane, images: int, rng: np.random.Generator, zero_point: int = 0) -> Images:
        """Random values; floats behind the channels are not numbers, so that nobody reads them."""
        made = Images.filled(plane, images, zero_point)
        shape = made.values.shape
        if plane.dtype == "float32":
            made.memory[..., plane.channels :] = np.nan
            made.values[:] = rng.standard_normal(shape)
        else:
            bounds = np.iinfo(plane.dtype)
            made.values[:] = rng.integers(bounds.min, bounds.max + 1, shape)
        return made

    @property
    def values(self) -> np.ndarray:
        """What is no halo and no filling: ``[images, height, width, channels]``."""
        plane = self.plane
        rows = slice(plane.halo.top, plane.halo.top + plane.height)
        pixels = slice(plane.halo.left, plane.halo.left + plane.width)
        return self.memory[:, rows, pixels, : plane.channels]

    def numbers(self, zero_point: int = 0) -> np.ndarray:
        """The values as float64, less the zero-point."""
        return self.values.astype(np.float64) - zero_point


def to_codes(numbers: np.ndarray, zero_point: int, dtype: str) -> np.ndarray:
    """Numbers in units of the scale as codes."""
    bounds = np.iinfo(dtype)
    return np.clip(np.rint(numbers.astype(np.float32)) + zero_point, bounds.min, bounds.max)
