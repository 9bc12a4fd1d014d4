"""MobileNetV2 (Sandler et al. 2018): inverted residuals with linear bottlenecks."""

from __future__ import annotations

from dataclasses import dataclass

from graphpress.ir import Model
from graphpress.models.architecture import Architecture
from graphpress.models.builder import LINEAR_GAIN, RESIDUAL_GAIN, Builder, Conv

_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, repeats and first stride of each stage."""


def divisible(channels: float, divisor: int = 8) -> int:
    """The multiple of ``divisor`` nearest to ``channels``, at most a tenth below it."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * channels else rounded + divisor


@dataclass(frozen=True, kw_only=True)
class MobileNetV2(Architecture):
    """``multiplier=1.0, image=224, classes=1000`` is the paper's model.

    Relu6 is a Clip whose bounds are Constant nodes, as exporters write it.

    Args:
        multiplier: scales all widths.
        image: height and width.
        classes: size of the output.
        batch_norm: keep BatchNormalization nodes; else convolutions have biases, as after folding.
    """

    multiplier: float = 0.25
    image: int = 64
    classes: int = 10
    batch_norm: bool = True

    def build(self) -> Model:
        """From ``input`` (N, 3, H, W) to ``logits`` (N, classes)."""
        b = self.builder()
        x = b.input("input", [self.batch, 3, self.image, self.image])
        channels, last = self._width(32), divisible(1280 * max(1.0, self.multiplier))
        with b.scope("features"):
            x = self._unit(b, "first", x, Conv((3, channels), 3, 2))
            for stage, (expansion, width, repeats, first_stride) in enumerate(_STAGES):
                for block in range(repeats):
                    spec = Conv((channels, self._width(width)), 3, 1 if block else first_stride)
                    with b.scope(f"{stage}.{block}"):
                        x = self._block(b, x, spec, expansion)
                    channels = spec.channels[1]
            x = self._unit(b, "last", x, Conv((channels, last), 1))
        with b.scope("classifier"):
            b.output(b.classifier(x, last, self.classes), "logits", [self.batch, self.classes])
        return b.finish()

    def _width(self, channels: int) -> int:
        return divisible(channels * self.multiplier)

    def _unit(self, b: Builder, name: str, x: str, spec: Conv) -> str:
        x = b.conv_norm(name, x, spec, norm=self.batch_norm)
        return b.node("Clip", x, b.literal(0.0), b.literal(6.0))

    def _block(self, b: Builder, x: str, spec: Conv, expansion: int) -> str:
        channels, out = spec.channels
        inner = channels * expansion
        residual = spec.stride == 1 and channels == out
        y = x if expansion == 1 else self._unit(b, "expand", x, Conv((channels, inner), 1))
        y = self._unit(b, "depthwise", y, Conv((inner, inner), 3, spec.stride, groups=inner))
        gain = RESIDUAL_GAIN if residual else LINEAR_GAIN
        y = b.conv_norm("project", y, Conv((inner, out), 1, gain=gain), norm=self.batch_norm)
        return b.node("Add", x, y) if residual else y
