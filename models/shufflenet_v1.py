"""ShuffleNet v1 (Zhang et al. 2017): grouped pointwise convolutions with a channel shuffle between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphpress.ir import Model
from graphpress.models import blocks
from graphpress.models.architecture import Architecture, require_multiple
from graphpress.models.builder import LINEAR_GAIN, RESIDUAL_GAIN, Builder, Conv


@dataclass(frozen=True, kw_only=True)
class ShuffleNetV1(Architecture):
    """``blocks=(4, 8, 4), width=240, groups=3, image=224, classes=1000`` is about ShuffleNet 1x (g = 3).

    Args:
        blocks: units of each stage; the first of each halves the resolution and doubles the channels.
        width: channels of the first stage, a multiple of ``4 * groups`` above 24.
        groups: of the pointwise convolutions; divides 24.
        image: height and width, a multiple of ``4 * 2**len(blocks)``.
        classes: size of the output.
    """

    blocks: Sequence[int] = (2, 3, 2)
    width: int = 48
    groups: int = 3
    image: int = 64
    classes: int = 10

    def build(self) -> Model:
        """From ``input`` (N, 3, H, W) to ``logits`` (N, classes)."""
        require_multiple("width", self.width, 4 * self.groups)
        require_multiple("image", self.image, 4 << len(self.blocks))
        b = self.builder()
        x = blocks.stem(b, b.input("input", [self.batch, 3, self.image, self.image]), 24)
        channels, side = 24, self.image // 4
        for stage, count in enumerate(self.blocks):
            for index in range(count):
                out = self.width << stage
                with b.scope(f"stage{stage + 2}.{index}"):
                    x = self._unit(b, x, (channels, out), side, first=not (stage or index))
                side, channels = side if index else side // 2, out
        with b.scope("fc"):
            b.output(b.classifier(x, channels, self.classes), "logits", [self.batch, self.classes])
        return b.finish()

    def _unit(self, b: Builder, x: str, channels: tuple[int, int], side: int, *, first: bool) -> str:
        """Grouped 1x1, shuffle, depthwise 3x3, grouped 1x1; added, or concatenated with a pooled shortcut."""
        down = channels[0] != channels[1]
        inner, out = channels[1] // 4, channels[1] - channels[0] if down else channels[1]
        y = blocks.unit(b, "reduce", x, Conv((channels[0], inner), 1, groups=1 if first else self.groups))
        y = blocks.shuffle(b, y, self.groups, [blocks.batch_of(b, y, self.batch), inner, side, side])
        y = b.conv_norm("depthwise", y, Conv((inner, inner), 3, 2 if down else 1, groups=inner, gain=LINEAR_GAIN))
        gain = LINEAR_GAIN if down else RESIDUAL_GAIN
        y = b.conv_norm("expand", y, Conv((inner, out), 1, groups=self.groups, gain=gain))
        if down:
            return b.node("Relu", b.node("Concat", b.pool("AveragePool", x, 3, 2), y, axis=1))
        return b.node("Relu", b.node("Add", x, y))
