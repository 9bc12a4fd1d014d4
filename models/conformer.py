"""Conformer (Gulati et al. 2020): speech encoder of half-step MLPs, attention and a gated depthwise convolution."""

from __future__ import annotations

from dataclasses import dataclass

from graphpress.ir import Model
from graphpress.models import blocks, transformer
from graphpress.models.architecture import Architecture
from graphpress.models.builder import HE_GAIN, RESIDUAL_GAIN, Builder, Conv


@dataclass(frozen=True, kw_only=True)
class Conformer(Architecture):
    """``layers=16, width=144, heads=4, features=80, classes=1024`` is Conformer-S.

    Args:
        layers: encoder blocks.
        width: features of a frame.
        heads: attention heads; divides ``width``.
        kernel: frames that the depthwise convolution sees, odd.
        features: filter bank size of the input.
        frames: a fixed length of the input, or the name of a dynamic one.
        classes: size of the output at each step.
    """

    layers: int = 2
    width: int = 32
    heads: int = 4
    kernel: int = 7
    features: int = 16
    frames: int | str = "frames"
    classes: int = 10

    def build(self) -> Model:
        """From ``input`` (N, frames, features) to ``logits`` (N, frames / 4, classes)."""
        block = transformer.Block(self.width, self.heads, 4 * self.width)
        b = self.builder()
        x = self._subsample(b, b.input("input", [self.batch, self.frames, self.features]))
        for layer in range(self.layers):
            with b.scope(f"layers.{layer}"):
                x = self._layer(b, x, block)
        with b.scope("head"):
            x = b.projection(x, (self.width, self.classes))
        steps = "steps" if isinstance(self.frames, str) else -(-self.frames // 4)
        b.output(x, "logits", [self.batch, steps, self.classes])
        return b.finish()

    def _subsample(self, b: Builder, x: str) -> str:
        """Two strided convolutions over time and frequency, then a projection of what is left of the frequencies."""
        x = b.node("Unsqueeze", x, b.literal([1]))
        bands = -(-self.features // 4)
        with b.scope("subsample.0"):
            x = b.node("Relu", b.conv(x, Conv((1, self.width), 3, 2, bias=True)))
        with b.scope("subsample.1"):
            x = b.node("Relu", b.conv(x, Conv((self.width, self.width), 3, 2, bias=True)))
        x = b.node("Transpose", x, perm=[0, 2, 1, 3])
        x = b.reshape(x, [b.size(x, 0), b.size(x, 1), self.width * bands])
        with b.scope("subsample.out"):
            return b.projection(x, (self.width * bands, self.width))

    def _layer(self, b: Builder, x: str, block: transformer.Block) -> str:
        x = self._half_step(b, "ffn1", x)
        y = self._norm(b, "attention.norm", x)
        with b.scope("attention"):
            query, key, value = transformer.separate_projections(b, y, block)
            y = transformer.attend(b, transformer.scores(b, query, key, block), value, block)
        x = b.node("Add", x, y)
        y = self._norm(b, "conv.norm", x)
        with b.scope("conv"):
            x = b.node("Add", x, self._convolve(b, y))
        return self._norm(b, "norm", self._half_step(b, "ffn2", x))

    def _half_step(self, b: Builder, name: str, x: str) -> str:
        y = self._norm(b, f"{name}.norm", x)
        with b.scope(f"{name}.up"):
            y = blocks.silu(b, b.projection(y, (self.width, 4 * self.width), HE_GAIN))
        with b.scope(f"{name}.down"):
            y = b.projection(y, (4 * self.width, self.width), RESIDUAL_GAIN)
        return b.node("Add", x, b.node("Mul", y, b.literal(0.5)))

    def _convolve(self, b: Builder, x: str) -> str:
        """Pointwise, gated linear unit, depthwise, batch normalization, SiLU, pointwise."""
        width = self.width
        x = b.node("Transpose", x, perm=[0, 2, 1])
        with b.scope("pointwise1"):
            x = blocks.conv_1d(b, x, Conv((width, 2 * width), 1))
        value, gate = b.split(x, [width, width], axis=1)
        x = b.node("Mul", value, b.node("Sigmoid", gate))
        with b.scope("depthwise"):
            x = blocks.conv_1d(b, x, Conv((width, width), self.kernel, groups=width))
        with b.scope("batch_norm"):
            x = blocks.silu(b, b.batch_norm(x, width))
        with b.scope("pointwise2"):
            x = blocks.conv_1d(b, x, Conv((width, width), 1, gain=RESIDUAL_GAIN))
        return b.node("Transpose", x, perm=[0, 2, 1])

    def _norm(self, b: Builder, name: str, x: str) -> str:
        with b.scope(name):
            return blocks.layer_norm(b, x, self.width)
