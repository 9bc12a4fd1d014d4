"""YOLO (v8-like, Jocher et al. 2023): cross-stage partial blocks, pyramid pooling, two paths, decoupled heads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphpress.ir import Model
from graphpress.models import blocks
from graphpress.models.architecture import Architecture, require_multiple
from graphpress.models.builder import LINEAR_GAIN, RESIDUAL_GAIN, Builder, Conv

_STRIDES = (8, 16, 32)


@dataclass(frozen=True, kw_only=True)
class Yolo(Architecture):
    """A detector whose boxes are expectations over distances, read off a Softmax and a fixed 1x1 convolution.

    Args:
        width: channels of the first convolution, even; they double with every halving of the resolution up to 8x.
        bins: distances that each side of a box is a mixture of.
        image: height and width, a multiple of 32.
        classes: number of classes.
    """

    width: int = 8
    bins: int = 4
    image: int = 64
    classes: int = 4

    def build(self) -> Model:
        """From ``input`` (N, 3, H, W) to ``predictions`` (N, 4 + classes, A), over A positions of three strides: the
        distances to a box's four sides, and scores from 0 to 1.
        """
        require_multiple("width", self.width, 2)
        require_multiple("image", self.image, 32)
        b = self.builder()
        levels = self._neck(b, self._backbone(b, b.input("input", [self.batch, 3, self.image, self.image])))
        heads = []
        for index, x in enumerate(levels):
            with b.scope(f"head.{index}"):
                heads.append(self._head(b, x, self.width << min(index + 2, 3)))
        x = b.node("Concat", *heads, axis=2)
        positions = sum((self.image // stride) ** 2 for stride in _STRIDES)
        boxes, scores = b.split(x, [4 * self.bins, self.classes], axis=1)
        result = b.node("Concat", self._expect(b, boxes, positions), b.node("Sigmoid", scores), axis=1)
        b.output(result, "predictions", [self.batch, 4 + self.classes, positions])
        return b.finish()

    def _backbone(self, b: Builder, x: str) -> list[str]:
        """The features of strides 8, 16 and 32."""
        features, channels = [], 3
        for stage in range(5):
            out = self.width << min(stage, 3)
            with b.scope(f"backbone.{stage}"):
                x = blocks.silu_unit(b, "down", x, Conv((channels, out), 3, 2))
                x = _partial(b, "csp", x, (out, out)) if stage else x
                x = _pyramid_pool(b, x, out) if stage == 4 else x
            channels = out
            features += [x] if stage >= 2 else []
        return features

    def _neck(self, b: Builder, features: list[str]) -> list[str]:
        """From coarse to fine and back, by concatenation."""
        widths = [self.width << min(level + 2, 3) for level in range(3)]
        down = [features[-1]]
        for level in (1, 0):
            with b.scope(f"neck.down{level}"):
                x = b.node("Concat", blocks.double(b, down[0]), features[level], axis=1)
                down.insert(0, _partial(b, "csp", x, (widths[level + 1] + widths[level], widths[level]), add=False))
        result = [down[0]]
        for level in (1, 2):
            with b.scope(f"neck.up{level}"):
                x = blocks.silu_unit(b, "down", result[-1], Conv((widths[level - 1],) * 2, 3, 2))
                x = b.node("Concat", x, down[level], axis=1)
                result.append(_partial(b, "csp", x, (widths[level - 1] + widths[level], widths[level]), add=False))
        return result

    def _head(self, b: Builder, x: str, channels: int) -> str:
        """Box distances and class scores, (N, 4 * bins + classes, positions)."""
        results = []
        for name, out in (("box", 4 * self.bins), ("class", self.classes)):
            y = blocks.silu_unit(b, f"{name}.0", x, Conv((channels, 2 * self.width)))
            with b.scope(f"{name}.1"):
                results.append(b.conv(y, Conv((2 * self.width, out), 1, bias=True, gain=LINEAR_GAIN)))
        joint = b.node("Concat", *results, axis=1)
        return b.reshape(joint, [blocks.batch_of(b, joint, self.batch), 4 * self.bins + self.classes, -1])

    def _expect(self, b: Builder, x: str, positions: int) -> str:
        """(N, 4 * bins, A) to the mean distance of each side, (N, 4, A)."""
        batch = blocks.batch_of(b, x, self.batch)
        x = b.node("Transpose", b.reshape(x, [batch, 4, self.bins, positions]), perm=[0, 2, 1, 3])
        distances = b.constant(np.arange(self.bins, dtype=np.float32).reshape(1, -1, 1, 1), "distances")
        return b.reshape(b.node("Conv", b.node("Softmax", x, axis=1), distances), [batch, 4, positions])


def _partial(b: Builder, name: str, x: str, channels: tuple[int, int], *, add: bool = True) -> str:
    """Half of the channels goes through a bottleneck; everything on the way is concatenated."""
    half = channels[1] // 2
    with b.scope(name):
        x = blocks.silu_unit(b, "first", x, Conv((channels[0], 2 * half), 1))
        parts = list(b.split(x, [half, half], axis=1))
        y = blocks.silu_unit(b, "bottleneck.0", parts[-1], Conv((half, half)))
        y = blocks.silu_unit(b, "bottleneck.1", y, Conv((half, half), gain=RESIDUAL_GAIN if add else LINEAR_GAIN))
        parts.append(b.node("Add", parts[-1], y) if add else y)
        return blocks.silu_unit(b, "last", b.node("Concat", *parts, axis=1), Conv((3 * half, channels[1]), 1))


def _pyramid_pool(b: Builder, x: str, channels: int) -> str:
    with b.scope("pyramid_pool"):
        parts = [blocks.silu_unit(b, "first", x, Conv((channels, channels // 2), 1))]
        for _ in range(3):
            parts.append(b.pool("MaxPool", parts[-1], 5, 1))
        return blocks.silu_unit(b, "last", b.node("Concat", *parts, axis=1), Conv((2 * channels, channels), 1))
