"""SqueezeNet (Iandola et al. 2016): fire modules, and a convolution in place of a linear classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphpress.ir import Model
from graphpress.models.architecture import Architecture
from graphpress.models.builder import LINEAR_GAIN, Builder, Conv


@dataclass(frozen=True, kw_only=True)
class SqueezeNet(Architecture):
    """``blocks=(2, 2, 4), width=16, image=224, classes=1000`` is about SqueezeNet 1.1.

    Args:
        blocks: fire modules between two halvings of the resolution.
        width: squeezed channels of the first modules; each halving doubles them.
        image: height and width.
        classes: size of the output.
    """

    blocks: Sequence[int] = (2, 2, 2)
    width: int = 8
    image: int = 64
    classes: int = 10

    def build(self) -> Model:
        """From ``input`` (N, 3, H, W) to ``logits`` (N, classes)."""
        b = self.builder()
        x, channels = b.input("input", [self.batch, 3, self.image, self.image]), 4 * self.width
        with b.scope("first"):
            x = b.node("Relu", b.conv(x, Conv((3, channels), 3, 2, bias=True)))
        for stage, count in enumerate(self.blocks):
            x = b.pool("MaxPool", x, 3, 2)
            squeezed = self.width << stage
            for index in range(count):
                with b.scope(f"fire{stage}.{index}"):
                    x = _fire(b, x, channels, squeezed)
                channels = 8 * squeezed
        with b.scope("classifier"):
            x = b.conv(x, Conv((channels, self.classes), 1, bias=True, gain=LINEAR_GAIN))
        x = b.node("Flatten", b.node("GlobalAveragePool", x), axis=1)
        b.output(x, "logits", [self.batch, self.classes])
        return b.finish()


def _fire(b: Builder, x: str, channels: int, squeezed: int) -> str:
    """A 1x1 convolution to few channels, then 1x1 and 3x3 side by side to four times as many each."""
    with b.scope("squeeze"):
        x = b.node("Relu", b.conv(x, Conv((channels, squeezed), 1, bias=True)))
    sides = []
    for kernel in (1, 3):
        with b.scope(f"expand{kernel}"):
            sides.append(b.node("Relu", b.conv(x, Conv((squeezed, 4 * squeezed), kernel, bias=True))))
    return b.node("Concat", *sides, axis=1)
