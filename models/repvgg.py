"""RepVGG (Ding et al. 2021) in its training form: 3x3, 1x1 and identity, each normalized, summed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphpress.ir import Model
from graphpress.models import blocks
from graphpress.models.architecture import Architecture
from graphpress.models.builder import LINEAR_GAIN, RESIDUAL_GAIN, Builder, Conv


@dataclass(frozen=True, kw_only=True)
class RepVgg(Architecture):
    """``blocks=(2, 4, 14, 1), width=48, image=224, classes=1000`` is about RepVGG-A0.

    Args:
        blocks: of each stage; the first of each halves the resolution and doubles the channels.
        width: channels before the first stage.
        image: height and width.
        classes: size of the output.
    """

    blocks: Sequence[int] = (2, 2, 2)
    width: int = 16
    image: int = 64
    classes: int = 10

    def build(self) -> Model:
        """From ``input`` (N, 3, H, W) to ``logits`` (N, classes)."""
        b = self.builder()
        x = blocks.unit(
            b, "stem", b.input("input", [self.batch, 3, self.image, self.image]), Conv((3, self.width), 3, 2)
        )
        channels = self.width
        for stage, count in enumerate(self.blocks):
            out = 2 * self.width << stage
            for index in range(count):
                with b.scope(f"stage{stage + 1}.{index}"):
                    x = _block(b, x, (channels, out), 1 if index else 2)
                channels = out
        with b.scope("linear"):
            b.output(b.classifier(x, channels, self.classes), "logits", [self.batch, self.classes])
        return b.finish()


def _block(b: Builder, x: str, channels: tuple[int, int], stride: int) -> str:
    dense = b.conv_norm("dense", x, Conv(channels, 3, stride, gain=LINEAR_GAIN))
    total = b.node("Add", dense, b.conv_norm("pointwise", x, Conv(channels, 1, stride, gain=RESIDUAL_GAIN)))
    if stride == 1:
        with b.scope("identity"):
            total = b.node("Add", total, b.batch_norm(x, channels[0]))
    return b.node("Relu", total)
