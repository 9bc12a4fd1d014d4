"""PoolFormer (Yu et al. 2021): average pooling mixes positions, 1x1 convolutions mix channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphpress.ir import Model
from graphpress.models import transformer
from graphpress.models.architecture import Architecture, require_multiple
from graphpress.models.builder import HE_GAIN, LINEAR_GAIN, Builder, Conv


@dataclass(frozen=True, kw_only=True)
class PoolFormer(Architecture):
    """``blocks=(2, 2, 6, 2), width=64, image=224, classes=1000`` is about PoolFormer-S12.

    The norm is a group normalization with one group, which exporters write as an InstanceNormalization of a tensor
    reshaped to (N, 1, -1), and a product and a sum with the parameters.

    Args:
        blocks: of each stage.
        width: channels of the first stage; each further one doubles them.
        image: height and width, a multiple of ``4 * 2**(len(blocks) - 1)``.
        classes: size of the output.
    """

    blocks: Sequence[int] = (2, 2, 2)
    width: int = 16
    image: int = 64
    classes: int = 10

    def build(self) -> Model:
        """From ``input`` (N, 3, H, W) to ``logits`` (N, classes)."""
        require_multiple("image", self.image, 2 << len(self.blocks))
        b = self.builder()
        x, channels = b.input("input", [self.batch, 3, self.image, self.image]), 3
        for stage, count in enumerate(self.blocks):
            out = self.width << stage
            with b.scope(f"embed.{stage}"):
                stride = 2 if stage else 4
                weight = b.weight((out, channels, 3, 3), 9 * channels, LINEAR_GAIN)
                x = b.node("Conv", x, weight, b.small(out), kernel_shape=[3, 3], pads=[1] * 4, strides=[stride] * 2)
            channels = out
            for index in range(count):
                with b.scope(f"stages.{stage}.{index}"):
                    x = self._block(b, x, channels)
        x = self._norm(b, "norm", x, channels)
        with b.scope("head"):
            b.output(b.classifier(x, channels, self.classes), "logits", [self.batch, self.classes])
        return b.finish()

    def _block(self, b: Builder, x: str, channels: int) -> str:
        y = self._norm(b, "norm1", x, channels)
        y = b.node("Sub", b.pool("AveragePool", y, 3, 1), y)
        x = b.node("Add", x, self._scaled(b, "scale1", y, channels))
        y = self._norm(b, "norm2", x, channels)
        with b.scope("mlp.up"):
            y = transformer.gelu(b, b.conv(y, Conv((channels, 4 * channels), 1, bias=True, gain=HE_GAIN)))
        with b.scope("mlp.down"):
            y = b.conv(y, Conv((4 * channels, channels), 1, bias=True, gain=LINEAR_GAIN))
        return b.node("Add", x, self._scaled(b, "scale2", y, channels))

    def _scaled(self, b: Builder, name: str, x: str, channels: int) -> str:
        factors = b.random.uniform(0.3, 0.5, (channels, 1, 1))
        return b.node("Mul", x, b.parameter(name, factors))

    def _norm(self, b: Builder, name: str, x: str, channels: int) -> str:
        with b.scope(name):
            flat = b.node("Reshape", x, b.literal([0, 1, -1]))
            ones, zeros = (b.constant(np.full(1, number, np.float32)) for number in (1, 0))
            flat = b.node("InstanceNormalization", flat, ones, zeros, epsilon=1e-5)
            x = b.node("Reshape", flat, b.node("Shape", x))
            scale = b.parameter("weight", b.random.uniform(0.9, 1.1, (channels, 1, 1)))
            return b.node("Add", b.node("Mul", x, scale), b.weight((channels, 1, 1), channels, 0.05, "bias"))
