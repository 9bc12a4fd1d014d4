"""PointNet (Qi et al. 2016): a point cloud turned by a learned matrix, convolved point by point, and pooled."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from graphpress.ir import Model
from graphpress.models import blocks
from graphpress.models.architecture import Architecture
from graphpress.models.builder import LINEAR_GAIN, RESIDUAL_GAIN, Builder, Conv


@dataclass(frozen=True, kw_only=True)
class PointNet(Architecture):
    """``width=64, classes=40`` is the paper's model.

    Args:
        width: channels of the first point-wise convolutions; the last has sixteen times as many.
        points: a fixed number of points, or the name of a dynamic one.
        classes: size of the output.
    """

    width: int = 8
    points: int | str = "points"
    classes: int = 10

    def build(self) -> Model:
        """From ``points`` (N, 3, P) to ``logits`` (N, classes)."""
        b = self.builder()
        x = b.input("points", [self.batch, 3, self.points])
        with b.scope("turn"):
            x = self._turn(b, x, 3)
        x = _unit(b, "conv1", x, (3, self.width))
        with b.scope("turn_features"):
            x = self._turn(b, x, self.width)
        x = self._pooled(b, x, self.width)
        x = self._hidden(b, x)
        with b.scope("fc3"):
            b.output(b.linear(x, (4 * self.width, self.classes)), "logits", [self.batch, self.classes])
        return b.finish()

    def _turn(self, b: Builder, x: str, channels: int) -> str:
        """Multiply each point with a matrix that all points decide, near the identity: (N, C, P) to the same."""
        matrix = self._hidden(b, self._pooled(b, x, channels))
        with b.scope("matrix"):
            matrix = b.linear(matrix, (4 * self.width, channels**2), RESIDUAL_GAIN)
        matrix = b.node("Add", matrix, b.constant(np.eye(channels, dtype=np.float32).reshape(1, -1), "identity"))
        matrix = b.reshape(matrix, [-1, channels, channels])
        turned = b.node("MatMul", b.node("Transpose", x, perm=[0, 2, 1]), matrix)
        return b.node("Transpose", turned, perm=[0, 2, 1])

    def _pooled(self, b: Builder, x: str, channels: int) -> str:
        """(N, C, P) to the largest feature of any point, (N, 16 * width)."""
        widths = (channels, self.width, 2 * self.width, 16 * self.width)
        for index, pair in enumerate(itertools.pairwise(widths)):
            x = _unit(b, f"point{index}", x, pair)
        return b.node("Flatten", b.node("GlobalMaxPool", x), axis=1)

    def _hidden(self, b: Builder, x: str) -> str:
        for index, features in enumerate(((16 * self.width, 8 * self.width), (8 * self.width, 4 * self.width))):
            with b.scope(f"fc{index + 1}"):
                x = b.node("Relu", b.linear(x, features, LINEAR_GAIN))
        return x


def _unit(b: Builder, name: str, x: str, channels: tuple[int, int]) -> str:
    with b.scope(f"{name}.conv"):
        x = blocks.conv_1d(b, x, Conv(channels, 1, gain=LINEAR_GAIN))
    with b.scope(f"{name}.norm"):
        return b.node("Relu", b.batch_norm(x, channels[1]))
