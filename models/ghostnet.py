"""GhostNet (Han et al. 2019): half of the features are cheap depthwise copies of the other half."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphpress.ir import Model
from graphpress.models import blocks
from graphpress.models.architecture import Architecture, require_multiple
from graphpress.models.builder import HE_GAIN, LINEAR_GAIN, RESIDUAL_GAIN, Builder, Conv


@dataclass(frozen=True, kw_only=True)
class GhostNet(Architecture):
    """Bottlenecks of two ghost modules, with squeeze-and-excite in every second one.

    Args:
        blocks: of each stage; the first of each halves the resolution.
        width: channels of the first stage, even; each further one doubles them.
        image: height and width.
        classes: size of the output.
    """

    blocks: Sequence[int] = (2, 2, 2)
    width: int = 16
    image: int = 64
    classes: int = 10

    def build(self) -> Model:
        """From ``input`` (N, 3, H, W) to ``logits`` (N, classes)."""
        require_multiple("width", self.width, 2)
        b = self.builder()
        x = blocks.unit(
            b, "stem", b.input("input", [self.batch, 3, self.image, self.image]), Conv((3, self.width), 3, 2)
        )
        channels = self.width
        for stage, count in enumerate(self.blocks):
            out = self.width << stage
            for index in range(count):
                with b.scope(f"blocks.{stage}.{index}"):
                    x = self._block(b, x, (channels, out), 1 if index else 2, excite=bool(index % 2))
                channels = out
        x = blocks.unit(b, "last", x, Conv((channels, 4 * channels), 1))
        with b.scope("classifier"):
            b.output(b.classifier(x, 4 * channels, self.classes), "logits", [self.batch, self.classes])
        return b.finish()

    def _block(self, b: Builder, x: str, channels: tuple[int, int], stride: int, *, excite: bool) -> str:
        inner = 3 * channels[1]
        with b.scope("ghost1"):
            y = b.node("Relu", _ghost(b, x, (channels[0], inner), HE_GAIN))
        if stride > 1:
            y = b.conv_norm("depthwise", y, Conv((inner, inner), 3, stride, groups=inner, gain=LINEAR_GAIN))
        if excite:
            with b.scope("se"):
                y = blocks.excite(b, y, inner, inner // 4)
        with b.scope("ghost2"):
            y = _ghost(b, y, (inner, channels[1]), RESIDUAL_GAIN)
        if stride > 1 or channels[0] != channels[1]:
            x = b.conv_norm("shortcut.0", x, Conv((channels[0],) * 2, 3, stride, groups=channels[0], gain=LINEAR_GAIN))
            x = b.conv_norm("shortcut.1", x, Conv(channels, 1, gain=LINEAR_GAIN))
        return b.node("Add", y, x)


def _ghost(b: Builder, x: str, channels: tuple[int, int], gain: float) -> str:
    """A pointwise convolution to one half of the channels, rounded up, a depthwise one from it to the other."""
    half = -(-channels[1] // 2)
    first = b.conv_norm("primary", x, Conv((channels[0], half), 1, gain=gain))
    cheap = b.conv_norm("cheap", first, Conv((half, half), 3, groups=half, gain=LINEAR_GAIN))
    return b.slice(b.node("Concat", first, cheap, axis=1), 0, channels[1], axis=1)
