"""Compiled kernels, and images in planes."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.emulator import PipedProgram
from graphpress.backends.tvm.kernels.kernel import Kernel, symbol
from graphpress.backends.tvm.kernels.plane import Plane

SLACK = 4096
"""Bytes that kernels may read behind what they are given, as the runtime has them."""


def aligned(array: np.ndarray) -> np.ndarray:
    """A copy of an array at the start of a cache line, with slack behind it."""
    room = np.zeros(array.nbytes + SLACK, np.uint8)
    start = -room.ctypes.data % 64
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
        """Compute all tasks into a copy of ``result``, in two calls."""
        arrays = [aligned(operands[operand.name].astype(operand.dtype)) for operand in kernel.operands[:-1]]
        arrays.append(aligned(result.astype(kernel.operands[-1].dtype)))
        tasks, name = images * kernel.tasks(self.isa), symbol(kernel, self.isa)
        for first, last in ((tasks // 2, tasks), (0, tasks // 2)):  # tasks are independent
            self.call(name, arrays, first, last)
        return arrays[-1].reshape(result.shape)


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
