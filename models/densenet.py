"""DenseNet (Huang et al. 2016): every layer reads the concatenation of all before it in its block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphpress.ir import Model
from graphpress.models.architecture import Architecture
from graphpress.models.builder import Builder, Conv

_BOTTLENECK = 4


@dataclass(frozen=True, kw_only=True)
class DenseNet(Architecture):
    """``blocks=(6, 12, 24, 16), growth=32, stem=64, image=224, classes=1000`` is DenseNet-121.

    As exporters write it, the first layer of each block has a Concat of one input.

    Args:
        blocks: layers of each dense block.
        growth: channels that each layer adds.
        stem: channels of the first convolution.
        image: height and width.
        classes: size of the output.
    """

    blocks: Sequence[int] = (2, 3, 2)
    growth: int = 8
    stem: int = 16
    image: int = 64
    classes: int = 10

    def build(self) -> Model:
        """From ``input`` (N, 3, H, W) to ``logits`` (N, classes)."""
        b = self.builder()
        x = b.input("input", [self.batch, 3, self.image, self.image])
        with b.scope("features"):
            x = b.node("Relu", b.conv_norm("first", x, Conv((3, self.stem), 7, 2)))
            x = b.pool("MaxPool", x, 3, 2)
            x, channels = self._body(b, x)
            with b.scope("last"):
                x = b.node("Relu", b.batch_norm(x, channels))
        with b.scope("classifier"):
            b.output(b.classifier(x, channels, self.classes), "logits", [self.batch, self.classes])
        return b.finish()

    def _body(self, b: Builder, x: str) -> tuple[str, int]:
        channels = self.stem
        for index, layers in enumerate(self.blocks):
            with b.scope(f"denseblock{index + 1}"):
                x = self._dense_block(b, x, channels, layers)
            channels += layers * self.growth
            if index < len(self.blocks) - 1:
                with b.scope(f"transition{index + 1}"):
                    x = _norm_relu_conv(b, "reduce", x, Conv((channels, channels // 2), 1))
                    x = b.pool("AveragePool", x, 2, 2)
                channels //= 2
        return x, channels

    def _dense_block(self, b: Builder, x: str, channels: int, layers: int) -> str:
        inner = _BOTTLENECK * self.growth
        features = [x]
        for layer in range(layers):
            with b.scope(f"denselayer{layer + 1}"):
                y = b.node("Concat", *features, axis=1)
                y = _norm_relu_conv(b, "1", y, Conv((channels + layer * self.growth, inner), 1))
                features.append(_norm_relu_conv(b, "2", y, Conv((inner, self.growth), 3)))
        return b.node("Concat", *features, axis=1)


def _norm_relu_conv(b: Builder, name: str, x: str, spec: Conv) -> str:
    with b.scope(f"norm{name}"):
        x = b.node("Relu", b.batch_norm(x, spec.channels[0]))
    with b.scope(f"conv{name}"):
        return b.conv(x, spec)
