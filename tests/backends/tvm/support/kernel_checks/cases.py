"""What cases of random shapes are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.kernels.kernel import Kernel
from graphpress.backends.tvm.kernels.plane import Halo, Plane, whole_vectors
from graphpress.backends.tvm.kernels.window import TapWindow
from kernel_checks.harness import Images, Kernels, to_codes

IMAGES = 2
ROUNDING = 2.0**-24
"""Of a sum of float32 numbers around 1, per term."""


@dataclass(frozen=True)
class Scope:
    """How far shapes go; each number is the largest.

    Args:
        taps: of a window, by axis.
        strides: of a window.
        dilations: of a window.
        extent: rows and pixels.
        channels: of a source.
        columns: of a tile.
    """

    taps: int = 3
    strides: int = 2
    dilations: int = 2
    extent: int = 19
    channels: int = 39
    columns: int = 7


USUAL = Scope()
WIDE = Scope(taps=7, strides=4, dilations=3, extent=40, channels=150, columns=28)


class KernelCase(Protocol):
    """A kernel, and whether it is right."""

    @property
    def kernels(self) -> Sequence[Kernel]:
        """What has to be compiled: variants that compute the same."""
        ...

    def check(self, kernels: Kernels) -> None:
        """Compare with numpy: codes bit for bit, floats within rounding."""
        ...


def random_window(rng: np.random.Generator, scope: Scope) -> TapWindow:
    """A window whose padding holds no more than its taps."""
    ends = (scope.taps, scope.strides, scope.dilations)
    taps, strides, dilations = (tuple(map(int, rng.integers(1, end + 1, 2))) for end in ends)
    pads = tuple(int(rng.integers((count - 1) * step + 1)) for count, step in zip(taps, dilations, strict=True))
    return TapWindow(taps, strides, dilations, pads)


def extents_for(window: TapWindow, rng: np.random.Generator, scope: Scope) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and pixels of a source, and of the result of a window with the same padding on both sides."""
    source, result = [], []
    for taps, stride, step, pad in zip(window.taps, window.strides, window.dilations, window.pads, strict=True):
        reach = (taps - 1) * step + 1
        length = max(int(rng.integers(1, scope.extent + 1)), reach - 2 * pad)
        source.append(length)
        result.append((length + 2 * pad - reach) // stride + 1)
    return (source[0], source[1]), (result[0], result[1])


def random_halo(rng: np.random.Generator, least: Sequence[int] = (0, 0, 0, 0)) -> Halo:
    """At least so many pixels at each side."""
    return Halo(*(int(side + rng.integers(2)) for side in least))


def random_weights(isa: Isa, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """All codes that the instruction set multiplies exactly."""
    largest = isa.dot.largest_weight
    return rng.integers(-largest, min(largest, 127) + 1, shape).astype(np.int8)


def compare(result: Images, expected: np.ndarray, zero_point: int = 0, terms: int = 1) -> None:
    """Numbers within rounding; codes, of numbers in their units, bit for bit.

    Args:
        result: of a kernel.
        expected: ``[images, height, width, channels]``.
        zero_point: of codes.
        terms: of each sum: the error of so many additions grows with its root, and so do the sums that are added to.
    """
    dtype = result.plane.dtype
    if dtype == "float32":
        np.testing.assert_allclose(result.values, expected, rtol=1e-5, atol=2e-5 + terms * ROUNDING)
    else:
        np.testing.assert_array_equal(result.values, to_codes(expected, zero_point, dtype))


def plane_of(channels: int, size: tuple[int, int], isa: Isa, halo: Halo, dtype: str) -> Plane:
    """Channels in whole vectors."""
    return Plane(channels, *size, whole_vectors(channels, isa.lanes), halo, dtype)
