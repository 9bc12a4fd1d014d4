"""Compiled kernels, and images in planes."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np

from graphpress.backends.tvm.codegen.isa import Isa
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


@dataclass
class Kernels:
    """Compiled kernels."""

    isa: Isa
    library: ctypes.CDLL

    def run(self, kernel: Kernel, images: int, result: np.ndarray, **operands: np.ndarray) -> np.ndarray:
        """Compute all tasks into a copy of ``result``, in two calls."""
        arrays = [aligned(operands[operand.name].astype(operand.dtype)) for operand in kernel.operands[:-1]]
        arrays.append(aligned(result.astype(kernel.operands[-1].dtype)))
        tasks = images * kernel.tasks(self.isa)
        compute = getattr(self.library, symbol(kernel, self.isa))
        for first, last in ((tasks // 2, tasks), (0, tasks // 2)):  # tasks are independent
            compute(*(ctypes.c_void_p(array.ctypes.data) for array in arrays), first, last)
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
