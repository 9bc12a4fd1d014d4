"""Windows that slide over a plane."""

from __future__ import annotations

from typing import NamedTuple

from graphpress.backends.tvm.codegen.builder import Expr


class RowWindow(NamedTuple):
    """Row ``y`` of the result reads ``span`` rows of the source, from ``y · stride - before`` on."""

    stride: int = 1
    before: int = 0
    span: int = 1


class TapWindow(NamedTuple):
    """Taps, and how they move over the source: each a pair of rows and columns; pads are those before."""

    taps: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: tuple[int, int] = (0, 0)

    def start(self, y: Expr, x: Expr) -> tuple[Expr, Expr]:
        """Where the first tap for a pixel of the result lies in the source; it may lie in the padding."""
        return y * self.strides[0] - self.pads[0], x * self.strides[1] - self.pads[1]

    @property
    def rows(self) -> RowWindow:
        """What it does from top to bottom."""
        return RowWindow(self.strides[0], self.pads[0], (self.taps[0] - 1) * self.dilations[0] + 1)

    def reaches_out(self, source: tuple[int, int], result: tuple[int, int]) -> bool:
        """Whether a tap ever lies in padding, of a result of so many rows and pixels over a source of so many."""
        axes = zip(self.taps, self.strides, self.dilations, self.pads, source, result, strict=True)
        return any(
            pad > 0 or (count - 1) * stride + (taps - 1) * step - pad >= size
            for taps, stride, step, pad, size, count in axes
        )
