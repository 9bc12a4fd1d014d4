"""Inception v3 (Szegedy et al. 2015): parallel branches of factorized convolutions, concatenated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphpress.ir import Model
from graphpress.models import blocks
from graphpress.models.architecture import Architecture
from graphpress.models.builder import Builder, Conv


@dataclass(frozen=True, kw_only=True)
class Inception(Architecture):
    """A stem, then modules with 5x5 branches, a reduction, modules with 1x7 and 7x1 branches, a fan-out module.

    Args:
        blocks: modules before and after the reduction.
        width: channels of a branch.
        image: height and width.
        classes: size of the output.
    """

    blocks: Sequence[int] = (2, 2)
    width: int = 8
    image: int = 64
    classes: int = 10

    def build(self) -> Model:
        """From ``input`` (N, 3, H, W) to ``logits`` (N, classes)."""
        b = self.builder()
        width, channels = self.width, 2 * self.width
        x = blocks.stem(b, b.input("input", [self.batch, 3, self.image, self.image]), channels)
        for index in range(self.blocks[0]):
            with b.scope(f"mixed_a{index}"):
                x, channels = self._module(b, x, channels, ((1,), (1, 5), (1, 3, 3)))
        with b.scope("reduction"):
            left = blocks.unit(b, "left", x, Conv((channels, 2 * width), 3, 2))
            middle = blocks.unit(b, "middle1", x, Conv((channels, width), 1))
            middle = blocks.unit(b, "middle2", middle, Conv((width, 2 * width), 3, 2))
            x = b.node("Concat", left, middle, b.pool("MaxPool", x, 3, 2), axis=1)
            channels += 4 * width
        for index in range(self.blocks[1]):
            with b.scope(f"mixed_b{index}"):
                x, channels = self._module(b, x, channels, ((1,), (1, (1, 7), (7, 1)), (1, (7, 1), (1, 7), (7, 1))))
        with b.scope("mixed_c"):
            x = blocks.unit(b, "first", x, Conv((channels, width), 1))
            sides = [
                _unit(b, f"side{index}", x, (width, 2 * width), window) for index, window in enumerate(((1, 3), (3, 1)))
            ]
            x = b.node("Concat", *sides, axis=1)
        with b.scope("fc"):
            b.output(b.classifier(x, 4 * width, self.classes), "logits", [self.batch, self.classes])
        return b.finish()

    def _module(
        self, b: Builder, x: str, channels: int, branches: Sequence[Sequence[int | tuple[int, int]]]
    ) -> tuple[str, int]:
        """Branches of convolutions with these windows, and a pooled one."""
        results = []
        for branch, windows in enumerate(branches):
            y, before = x, channels
            for index, window in enumerate(windows):
                sides = (window, window) if isinstance(window, int) else window
                y, before = _unit(b, f"branch{branch}.{index}", y, (before, self.width), sides), self.width
            results.append(y)
        pooled = b.pool("AveragePool", x, 3, 1)
        results.append(_unit(b, "pool", pooled, (channels, self.width), (1, 1)))
        return b.node("Concat", *results, axis=1), self.width * len(results)


def _unit(b: Builder, name: str, x: str, channels: tuple[int, int], window: tuple[int, int]) -> str:
    """Convolution with a rectangular window and "same" padding, batch normalization, Relu."""
    height, width = window
    with b.scope(f"{name}.conv"):
        weight = b.weight((channels[1], channels[0], height, width), channels[0] * height * width)
        x = b.node("Conv", x, weight, kernel_shape=list(window), pads=[height // 2, width // 2] * 2)
    with b.scope(f"{name}.norm"):
        return b.node("Relu", b.batch_norm(x, channels[1]))
