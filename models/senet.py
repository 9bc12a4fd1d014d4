"""SE-ResNet (Hu et al. 2017): bottlenecks whose result is gated, channel by channel, before the sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphpress.ir import Model
from graphpress.models import blocks
from graphpress.models.architecture import Architecture, require_multiple
from graphpress.models.builder import Conv


@dataclass(frozen=True, kw_only=True)
class SeNet(Architecture):
    """``blocks=(3, 4, 6, 3), width=64, reduction=16, image=224, classes=1000`` is SE-ResNet-50.

    Args:
        blocks: of each stage.
        width: channels of the 3x3 convolutions in the first stage; blocks have four times as many outside.
        reduction: by how much a gate's hidden layer is narrower; divides ``4 * width``.
        image: height and width.
        classes: size of the output.
    """

    blocks: Sequence[int] = (2, 2, 2)
    width: int = 16
    reduction: int = 4
    image: int = 64
    classes: int = 10

    def build(self) -> Model:
        """From ``input`` (N, 3, H, W) to ``logits`` (N, classes)."""
        require_multiple("width", 4 * self.width, self.reduction)
        b = self.builder()
        x = blocks.stem(b, b.input("input", [self.batch, 3, self.image, self.image]), self.width)
        channels = self.width
        for stage, count in enumerate(self.blocks):
            inner, out = self.width << stage, 4 * self.width << stage
            for index in range(count):
                middle = Conv((inner, inner), 3, 2 if stage and not index else 1)
                with b.scope(f"layer{stage + 1}.{index}"):
                    x = blocks.bottleneck(b, x, (channels, out), middle, excited=out // self.reduction)
                channels = out
        with b.scope("fc"):
            b.output(b.classifier(x, channels, self.classes), "logits", [self.batch, self.classes])
        return b.finish()
