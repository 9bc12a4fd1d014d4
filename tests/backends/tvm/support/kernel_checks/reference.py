"""Convolutions and windows in numpy, in float64."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from graphpress.backends.tvm.kernels.plane import Plane
from graphpress.backends.tvm.kernels.window import TapWindow


def taps_of(source: np.ndarray, window: TapWindow, result: Plane, padding: float) -> Iterator[np.ndarray]:
    """For each tap what it reads: ``[images, height, width, channels]``.

    Args:
        source: ``[images, height, width, channels]``.
        window: over it.
        result: rows and pixels of the result.
        padding: what padding holds.
    """
    reach = 64  # beyond any window of a test
    pads = ((0, 0), (window.pads[0], reach), (window.pads[1], reach), (0, 0))
    padded = np.pad(source, pads, constant_values=padding)
    for row in range(window.taps[0]):
        for column in range(window.taps[1]):
            y, x = row * window.dilations[0], column * window.dilations[1]
            rows = padded[:, y :: window.strides[0]][:, : result.height]
            yield rows[:, :, x :: window.strides[1]][:, :, : result.width]


def convolution(source: np.ndarray, kernel: np.ndarray, groups: int, window: TapWindow, result: Plane) -> np.ndarray:
    """A convolution without bias.

    Args:
        source: ``[images, height, width, channels]``.
        kernel: ``[outputs, inputs of a group, rows, columns]``.
        groups: of channels.
        window: over the source.
        result: rows and pixels of the result.
    """
    dense = np.zeros((kernel.shape[0], source.shape[-1], *kernel.shape[2:]))
    for output in range(kernel.shape[0]):
        first = output // (kernel.shape[0] // groups) * kernel.shape[1]
        dense[output, first : first + kernel.shape[1]] = kernel[output]
    flat = dense.reshape(*dense.shape[:2], -1)
    return sum(tap @ flat[..., number].T for number, tap in enumerate(taps_of(source, window, result, 0.0)))
