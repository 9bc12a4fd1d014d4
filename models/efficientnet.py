"""EfficientNet (Tan and Le 2019): inverted residuals with SiLU and squeeze-and-excite."""

from __future__ import annotations

from dataclasses import dataclass

from graphpress.ir import Model
from graphpress.models import blocks
from graphpress.models.architecture import Architecture
from graphpress.models.builder import LINEAR_GAIN, RESIDUAL_GAIN, Builder, Conv
from graphpress.models.mobilenet_v2 import divisible

_STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
"""Expansion, channels, repeats, first stride and kernel of each stage."""


@dataclass(frozen=True, kw_only=True)
class EfficientNet(Architecture):
    """``multiplier=1.0, image=224, classes=1000`` is EfficientNet-B0.

    Args:
        multiplier: scales all widths.
        image: height and width.
        classes: size of the output.
    """

    multiplier: float = 0.25
    image: int = 64
    classes: int = 10

    def build(self) -> Model:
        """From ``input`` (N, 3, H, W) to ``logits`` (N, classes)."""
        b = self.builder()
        x = b.input("input", [self.batch, 3, self.image, self.image])
        channels, last = self._width(32), self._width(1280)
        x = blocks.silu_unit(b, "stem", x, Conv((3, channels), 3, 2))
        for stage, (expansion, width, repeats, first_stride, kernel) in enumerate(_STAGES):
            for index in range(repeats):
                spec = Conv((channels, self._width(width)), kernel, 1 if index else first_stride)
                with b.scope(f"blocks.{stage}.{index}"):
                    x = self._block(b, x, spec, expansion)
                channels = spec.channels[1]
        x = blocks.silu_unit(b, "head", x, Conv((channels, last), 1))
        with b.scope("classifier"):
            b.output(b.classifier(x, last, self.classes), "logits", [self.batch, self.classes])
        return b.finish()

    def _width(self, channels: int) -> int:
        return divisible(channels * self.multiplier)

    def _block(self, b: Builder, x: str, spec: Conv, expansion: int) -> str:
        channels, out = spec.channels
        inner = channels * expansion
        residual = spec.stride == 1 and channels == out
        y = x if expansion == 1 else blocks.silu_unit(b, "expand", x, Conv((channels, inner), 1))
        y = blocks.silu_unit(b, "depthwise", y, Conv((inner, inner), spec.kernel, spec.stride, groups=inner))
        with b.scope("se"):
            y = blocks.excite(b, y, inner, max(4, channels // 4), smooth=True)
        gain = RESIDUAL_GAIN if residual else 2 * LINEAR_GAIN
        y = b.conv_norm("project", y, Conv((inner, out), 1, gain=gain))
        return b.node("Add", x, y) if residual else y
