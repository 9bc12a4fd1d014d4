"""ResNeXt (Xie et al. 2016): bottlenecks whose 3x3 convolution is grouped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphpress.ir import Model
from graphpress.models import blocks
from graphpress.models.architecture import Architecture, require_multiple
from graphpress.models.builder import Conv


@dataclass(frozen=True, kw_only=True)
class ResNeXt(Architecture):
    """``blocks=(3, 4, 6, 3), width=128, groups=32, image=224, classes=1000`` is ResNeXt-50 (32x4d).

    Args:
        blocks: of each stage.
        width: channels of the grouped convolutions in the first stage; blocks have twice as many outside.
        groups: of these convolutions; divides ``width``.
        image: height and width.
        classes: size of the output.
    """

    blocks: Sequence[int] = (2, 2, 2)
    width: int = 32
    groups: int = 8
    image: int = 64
    classes: int = 10

    def build(self) -> Model:
        """From ``input`` (N, 3, H, W) to ``logits`` (N, classes)."""
        require_multiple("width", self.width, self.groups)
        b = self.builder()
        x = blocks.stem(b, b.input("input", [self.batch, 3, self.image, self.image]), self.width)
        channels = self.width
        for stage, count in enumerate(self.blocks):
            inner = self.width << stage
            for index in range(count):
                middle = Conv((inner, inner), 3, 2 if stage and not index else 1, groups=self.groups)
                with b.scope(f"layer{stage + 1}.{index}"):
                    x = blocks.bottleneck(b, x, (channels, 2 * inner), middle)
                channels = 2 * inner
        with b.scope("fc"):
            b.output(b.classifier(x, channels, self.classes), "logits", [self.batch, self.classes])
        return b.finish()
