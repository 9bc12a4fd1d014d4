"""ResNeSt (Zhang et al. 2020): split attention chooses, channel by channel, between parallel convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphpress.ir import Model
from graphpress.models import blocks
from graphpress.models.architecture import Architecture, require_multiple
from graphpress.models.builder import LINEAR_GAIN, RESIDUAL_GAIN, Builder, Conv


@dataclass(frozen=True, kw_only=True)
class ResNeSt(Architecture):
    """``blocks=(3, 4, 6, 3), width=64, radix=2, groups=1, image=224, classes=1000`` is about ResNeSt-50.

    Args:
        blocks: of each stage.
        width: channels of the split convolutions in the first stage; blocks have four times as many outside.
        radix: how many convolutions each channel is chosen from.
        groups: cardinality; divides ``width / 2``.
        image: height and width.
        classes: size of the output.
    """

    blocks: Sequence[int] = (2, 2, 2)
    width: int = 16
    radix: int = 2
    groups: int = 2
    image: int = 64
    classes: int = 10

    def build(self) -> Model:
        """From ``input`` (N, 3, H, W) to ``logits`` (N, classes)."""
        require_multiple("width", self.width, 2 * self.groups)
        require_multiple("width", self.width, self.radix * self.groups)
        b = self.builder()
        x = blocks.stem(b, b.input("input", [self.batch, 3, self.image, self.image]), self.width)
        channels = self.width
        for stage, count in enumerate(self.blocks):
            inner, out = self.width << stage, 4 * self.width << stage
            for index in range(count):
                stride = 2 if stage and not index else 1
                with b.scope(f"layer{stage + 1}.{index}"):
                    y = blocks.unit(b, "part1", x, Conv((channels, inner), 1))
                    y = self._split_attention(b, y, inner)
                    y = b.pool("AveragePool", y, 3, 2) if stride > 1 else y
                    y = b.conv_norm("part3", y, Conv((inner, out), 1, gain=RESIDUAL_GAIN))
                    x = b.node("Relu", b.node("Add", y, blocks.shortcut(b, x, (channels, out), stride)))
                channels = out
        with b.scope("fc"):
            b.output(b.classifier(x, channels, self.classes), "logits", [self.batch, self.classes])
        return b.finish()

    def _split_attention(self, b: Builder, x: str, channels: int) -> str:
        wide, hidden = channels * self.radix, channels // 2
        x = blocks.unit(b, "splits", x, Conv((channels, wide), 3, groups=self.groups * self.radix))
        parts = b.split(x, [channels] * self.radix, axis=1)
        total = parts[0]
        for part in parts[1:]:
            total = b.node("Add", total, part)
        gate = blocks.unit(
            b, "gate1", b.node("GlobalAveragePool", total), Conv((channels, hidden), 1, groups=self.groups)
        )
        with b.scope("gate2"):
            gate = b.conv(gate, Conv((hidden, wide), 1, groups=self.groups, bias=True, gain=LINEAR_GAIN))
        batch = blocks.batch_of(b, gate, self.batch)
        gate = b.reshape(gate, [batch, self.groups, self.radix, channels // self.groups])
        gate = b.node("Softmax", b.node("Transpose", gate, perm=[0, 2, 1, 3]), axis=1)
        gates = b.split(b.reshape(gate, [batch, wide, 1, 1]), [channels] * self.radix, axis=1)
        chosen = [b.node("Mul", part, gate) for part, gate in zip(parts, gates, strict=True)]
        total = chosen[0]
        for part in chosen[1:]:
            total = b.node("Add", total, part)
        return total
