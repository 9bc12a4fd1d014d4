"""ShuffleNetV2 (Ma et al. 2018): channel split, a convolution branch, concatenation and channel shuffle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphpress.ir import Model
from graphpress.models.architecture import Architecture, require_multiple
from graphpress.models.builder import LINEAR_GAIN, Builder, Conv


@dataclass(frozen=True, kw_only=True)
class ShuffleNet(Architecture):
    """``blocks=(4, 8, 4), width=116, image=224, classes=1000`` is about ShuffleNetV2 1.0x.

    Args:
        blocks: blocks of each stage; the first of each halves the resolution and doubles the channels.
        width: channels of the first stage, even.
        image: height and width, a multiple of ``4 * 2**len(blocks)``.
        classes: size of the output.
    """

    blocks: Sequence[int] = (2, 3, 2)
    width: int = 16
    image: int = 64
    classes: int = 10

    def build(self) -> Model:
        """From ``input`` (N, 3, H, W) to ``logits`` (N, classes)."""
        require_multiple("width", self.width, 2)
        require_multiple("image", self.image, 4 << len(self.blocks))
        b = self.builder()
        x = b.input("input", [self.batch, 3, self.image, self.image])
        channels, side = 24, self.image // 4
        with b.scope("stem"):
            x = b.pool("MaxPool", b.node("Relu", b.conv_norm("first", x, Conv((3, channels), 3, 2))), 3, 2)
        for stage, blocks in enumerate(self.blocks):
            out = self.width << stage
            side //= 2
            for block in range(blocks):
                with b.scope(f"stage{stage + 2}.{block}"):
                    x = self._plain(b, x, out) if block else _down(b, x, (channels, out))
                    x = self._shuffle(b, x, out, side)
            channels = out
        with b.scope("fc"):
            b.output(b.classifier(x, channels, self.classes), "logits", [self.batch, self.classes])
        return b.finish()

    def _plain(self, b: Builder, x: str, channels: int) -> str:
        half = channels // 2
        kept, changed = b.split(x, [half, half], axis=1)
        return b.node("Concat", kept, _branch(b, changed, (half, half), 1), axis=1)

    def _shuffle(self, b: Builder, x: str, channels: int, side: int) -> str:
        """Interleave the two halves: (N, 2, C/2, H, W) to (N, C/2, 2, H, W)."""
        batch = b.size(x, 0) if isinstance(self.batch, str) else self.batch
        x = b.reshape(x, [batch, 2, channels // 2, side, side])
        x = b.node("Transpose", x, perm=[0, 2, 1, 3, 4])
        return b.reshape(x, [batch, channels, side, side])


def _down(b: Builder, x: str, channels: tuple[int, int]) -> str:
    inner, half = channels[0], channels[1] // 2
    left = b.conv_norm("branch1.depthwise", x, Conv((inner, inner), 3, 2, groups=inner, gain=LINEAR_GAIN))
    left = b.node("Relu", b.conv_norm("branch1.pointwise", left, Conv((inner, half), 1)))
    right = _branch(b, x, (inner, half), 2)
    return b.node("Concat", left, right, axis=1)


def _branch(b: Builder, x: str, channels: tuple[int, int], stride: int) -> str:
    """Pointwise, depthwise, pointwise; the depthwise one has no activation of its own."""
    width = channels[1]
    with b.scope("branch2"):
        x = b.node("Relu", b.conv_norm("expand", x, Conv(channels, 1)))
        x = b.conv_norm("depthwise", x, Conv((width, width), 3, stride, groups=width, gain=LINEAR_GAIN))
        return b.node("Relu", b.conv_norm("project", x, Conv((width, width), 1)))
