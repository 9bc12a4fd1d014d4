"""Transposed convolutions as convolutions: one for each phase of the result.

    y = i · stride + t · dilation - pad

A row y of the result takes the taps t for which (y + pad - t · dilation) is a multiple of the stride. They are the same
for all rows of a phase, y mod stride, and follow each other at even distances in the kernel and in the source: the
phase is a convolution of stride 1 over the source with these taps, in reverse, whose results lie ``stride`` apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from graphpress.backends.tvm.kernels.plane import Halo
from graphpress.backends.tvm.kernels.window import TapWindow
from graphpress.backends.tvm.lowering.refusal import refused
from graphpress.ir import Node, NodeView, static_shape
from graphpress.ops.semantics.window import WindowAttributes


@dataclass(frozen=True)
class AxisPhase:
    """A phase along one axis.

    Args:
        first: its first row of the result.
        count: rows that it has.
        taps: of the kernel, in the order in which the source is read; none where nothing is added.
        dilation: from one tap to the next, in the source.
        pad: rows before the source that the first result reads; negative where it begins further on.
    """

    first: int
    count: int
    taps: tuple[int, ...]
    dilation: int
    pad: int

    def beyond(self, size: int) -> int:
        """Rows behind a source of so many that the last result reads."""
        return max(0, self.count - 1 - self.pad + (len(self.taps) - 1) * self.dilation - (size - 1))


@dataclass(frozen=True)
class ResultPhase:
    """A phase of both axes."""

    rows: AxisPhase
    pixels: AxisPhase

    @property
    def window(self) -> TapWindow:
        """Over the source; one tap of no weight where there is none."""
        axes = (self.rows, self.pixels)
        taps, dilations, pads = zip(*((max(1, len(axis.taps)), axis.dilation, axis.pad) for axis in axes), strict=True)
        return TapWindow(taps, (1, 1), dilations, pads)


def axis_phases(taps: int, stride: int, dilation: int, pad: int, results: int) -> Iterator[AxisPhase]:
    """The phases along an axis of so many results."""
    common = math.gcd(stride, dilation)
    for first in range(min(stride, results)):
        chosen = [tap for tap in range(taps) if (first + pad - tap * dilation) % stride == 0]
        places = [(first + pad - tap * dilation) // stride for tap in chosen]
        count = -(-(results - first) // stride)
        yield AxisPhase(first, count, tuple(reversed(chosen)), dilation // common, -min(places, default=0))


def strides_of(node: Node) -> tuple[int, int]:
    """Rows and pixels from one result of a phase to the next."""
    strides = NodeView.of(node).integers("strides") or (1, 1)
    return strides[0], strides[1]


def phases(node: Node) -> list[ResultPhase]:
    """All phases of a transposed convolution over planes.

    Raises:
        UnsupportedError: its shapes are not known, or it has other axes than rows and pixels.
    """
    size, kernel, result = (static_shape(value) for value in (*node.inputs[:2], node.outputs[0]))
    if size is None or kernel is None or result is None or len(size) != 4:
        raise refused(node, "its window is not one of rows and pixels")
    view = NodeView.of(node)
    taps = view.integers("kernel_shape") or kernel[2:]
    window = WindowAttributes.of(view).over(taps, size[2:])
    extra = view.integers("output_padding") or (0, 0)
    cut = window.transposed(extra, view.integers("output_shape"))
    axes = zip(taps, window.strides, window.dilations, cut, result[2:], strict=True)
    rows, pixels = (
        list(axis_phases(count, stride, dilation, before, results))
        for count, stride, dilation, (before, _), results in axes
    )
    return [ResultPhase(*pair) for pair in product(rows, pixels)]


def transposed_halo(node: Node) -> Halo | None:
    """Pixels around the source that the phases read; None where there is no way to tell."""
    size = static_shape(node.inputs[0])
    if size is None or len(size) != 4 or static_shape(node.outputs[0]) is None or static_shape(node.inputs[1]) is None:
        return None
    halo = Halo()
    for phase in phases(node):
        window = phase.window
        after = phase.rows.beyond(size[2]), phase.pixels.beyond(size[3])
        halo = halo.around(Halo(max(0, window.pads[0]), max(0, window.pads[1]), *after))
    return halo
