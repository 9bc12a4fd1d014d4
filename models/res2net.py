"""Res2Net (Gao et al. 2019): inside a bottleneck, each part of the channels adds the result of the one before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphpress.ir import Model
from graphpress.models import blocks
from graphpress.models.architecture import Architecture
from graphpress.models.builder import LINEAR_GAIN, RESIDUAL_GAIN, Builder, Conv


@dataclass(frozen=True, kw_only=True)
class Res2Net(Architecture):
    """``blocks=(3, 4, 6, 3), width=26, scales=4, image=224, classes=1000`` is about Res2Net-50.

    Args:
        blocks: of each stage.
        width: channels of one part in the first stage.
        scales: parts.
        image: height and width.
        classes: size of the output.
    """

    blocks: Sequence[int] = (2, 2, 2)
    width: int = 8
    scales: int = 4
    image: int = 64
    classes: int = 10

    def build(self) -> Model:
        """From ``input`` (N, 3, H, W) to ``logits`` (N, classes)."""
        b = self.builder()
        channels = self.width * self.scales
        x = blocks.stem(b, b.input("input", [self.batch, 3, self.image, self.image]), channels)
        for stage, count in enumerate(self.blocks):
            width = self.width << stage
            for index in range(count):
                with b.scope(f"layer{stage + 1}.{index}"):
                    x = self._block(b, x, (channels, 2 * width * self.scales), width, 2 if stage and not index else 1)
                channels = 2 * width * self.scales
        with b.scope("fc"):
            b.output(b.classifier(x, channels, self.classes), "logits", [self.batch, self.classes])
        return b.finish()

    def _block(self, b: Builder, x: str, channels: tuple[int, int], width: int, stride: int) -> str:
        """In a block that changes the resolution the parts are not chained and the last one is pooled."""
        inner = width * self.scales
        first, *parts, last = b.split(
            blocks.unit(b, "part1", x, Conv((channels[0], inner), 1)), [width] * self.scales, axis=1
        )
        results: list[str] = []
        for index, part in enumerate([first, *parts]):
            part = b.node("Add", results[-1], part) if results and stride == 1 else part
            results.append(blocks.unit(b, f"scale{index}", part, Conv((width, width), 3, stride, gain=LINEAR_GAIN)))
        results.append(last if stride == 1 else b.pool("AveragePool", last, 3, stride))
        y = b.node("Concat", *results, axis=1)
        y = b.conv_norm("part3", y, Conv((inner, channels[1]), 1, gain=RESIDUAL_GAIN))
        return b.node("Relu", b.node("Add", y, blocks.shortcut(b, x, channels, stride)))
