"""MobileNetV3-Large (Howard et al. 2019): inverted residuals with squeeze-and-excite and hard swish."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from graphpress.ir import Model
from graphpress.models.architecture import Architecture
from graphpress.models.builder import HE_GAIN, LINEAR_GAIN, RESIDUAL_GAIN, Builder, Conv
from graphpress.models.mobilenet_v2 import divisible


class _Block(NamedTuple):
    kernel: int
    inner: int
    out: int
    excite: bool
    hard: bool
    stride: int


_LARGE = (
    _Block(3, 16, 16, False, False, 1),
    _Block(3, 64, 24, False, False, 2),
    _Block(3, 72, 24, False, False, 1),
    _Block(5, 72, 40, True, False, 2),
    _Block(5, 120, 40, True, False, 1),
    _Block(5, 120, 40, True, False, 1),
    _Block(3, 240, 80, False, True, 2),
    _Block(3, 200, 80, False, True, 1),
    _Block(3, 184, 80, False, True, 1),
    _Block(3, 184, 80, False, True, 1),
    _Block(3, 480, 112, True, True, 1),
    _Block(3, 672, 112, True, True, 1),
    _Block(5, 672, 160, True, True, 2),
    _Block(5, 960, 160, True, True, 1),
    _Block(5, 960, 160, True, True, 1),
)


@dataclass(frozen=True, kw_only=True)
class MobileNetV3(Architecture):
    """``multiplier=1.0, image=224, classes=1000`` is MobileNetV3-Large.

    Args:
        multiplier: scales all widths.
        image: height and width.
        classes: size of the output.
        decomposed: hard swish and hard sigmoid as Add, Clip, Div (and Mul), as exporters write them; else as the
            operators HardSwish and HardSigmoid.
        batch_norm: keep BatchNormalization nodes; else convolutions have biases, as after folding.
    """

    multiplier: float = 0.25
    image: int = 64
    classes: int = 10
    decomposed: bool = True
    batch_norm: bool = True

    def build(self) -> Model:
        """From ``input`` (N, 3, H, W) to ``logits`` (N, classes)."""
        b = self.builder()
        x = b.input("input", [self.batch, 3, self.image, self.image])
        channels = self._width(16)
        with b.scope("features"):
            x = self._unit(b, "first", x, Conv((3, channels), 3, 2), hard=True)
            for index, block in enumerate(_LARGE):
                with b.scope(str(index)):
                    x = self._block(b, x, channels, block)
                channels = self._width(block.out)
            x = self._unit(b, "last", x, Conv((channels, 6 * channels), 1), hard=True)
        b.output(self._classifier(b, x, 6 * channels), "logits", [self.batch, self.classes])
        return b.finish()

    def _width(self, channels: int) -> int:
        return divisible(channels * self.multiplier)

    def _classifier(self, b: Builder, x: str, channels: int) -> str:
        hidden = self._width(1280)
        x = b.node("Flatten", b.node("GlobalAveragePool", x), axis=1)
        with b.scope("classifier.0"):
            x = self._hard_swish(b, b.linear(x, (channels, hidden), HE_GAIN))
        with b.scope("classifier.1"):
            return b.linear(x, (hidden, self.classes))

    def _unit(self, b: Builder, name: str, x: str, spec: Conv, *, hard: bool) -> str:
        x = b.conv_norm(name, x, spec, norm=self.batch_norm)
        return self._hard_swish(b, x) if hard else b.node("Relu", x)

    def _block(self, b: Builder, x: str, channels: int, block: _Block) -> str:
        inner, out = self._width(block.inner), self._width(block.out)
        residual = block.stride == 1 and channels == out
        y = x if inner == channels else self._unit(b, "expand", x, Conv((channels, inner), 1), hard=block.hard)
        depthwise = Conv((inner, inner), block.kernel, block.stride, groups=inner)
        y = self._unit(b, "depthwise", y, depthwise, hard=block.hard)
        if block.excite:
            with b.scope("excite"):
                y = self._excite(b, y, inner)
        gain = RESIDUAL_GAIN if residual else LINEAR_GAIN
        y = b.conv_norm("project", y, Conv((inner, out), 1, gain=gain), norm=self.batch_norm)
        return b.node("Add", x, y) if residual else y

    def _excite(self, b: Builder, x: str, channels: int) -> str:
        """Squeeze-and-excite: scale each channel by a gate computed from all channels' means."""
        squeezed = divisible(channels / 4)
        gate = b.node("GlobalAveragePool", x)
        with b.scope("fc1"):
            gate = b.node("Relu", b.conv(gate, Conv((channels, squeezed), 1, bias=True)))
        with b.scope("fc2"):
            gate = b.conv(gate, Conv((squeezed, channels), 1, bias=True, gain=LINEAR_GAIN))
        return b.node("Mul", self._hard_sigmoid(b, gate), x)

    def _hard_swish(self, b: Builder, x: str) -> str:
        if not self.decomposed:
            return b.node("HardSwish", x)
        clipped = b.node("Clip", b.node("Add", x, b.literal(3.0)), b.literal(0.0), b.literal(6.0))
        return b.node("Div", b.node("Mul", x, clipped), b.literal(6.0))

    def _hard_sigmoid(self, b: Builder, x: str) -> str:
        if not self.decomposed:
            return b.node("HardSigmoid", x, alpha=1 / 6, beta=0.5)
        clipped = b.node("Clip", b.node("Add", x, b.literal(3.0)), b.literal(0.0), b.literal(6.0))
        return b.node("Div", clipped, b.literal(6.0))
