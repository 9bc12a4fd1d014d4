"""DCGAN generator (Radford et al. 2015): a latent vector grows into an image through transposed convolutions."""

from __future__ import annotations

from dataclasses import dataclass

from graphpress.ir import Model
from graphpress.models.architecture import Architecture
from graphpress.models.builder import HE_GAIN, Builder


@dataclass(frozen=True, kw_only=True)
class Generator(Architecture):
    """``latent=100, width=64, levels=4`` is the paper's model.

    Args:
        latent: size of the input.
        width: channels before the last layer; each layer before has twice as many.
        levels: how often the resolution doubles, starting at 4 x 4.
    """

    latent: int = 16
    width: int = 8
    levels: int = 3

    def build(self) -> Model:
        """From ``latent`` (N, latent) to ``image`` (N, 3, 4 * 2**levels, 4 * 2**levels), -1 to 1."""
        b = self.builder()
        x, channels = b.input("latent", [self.batch, self.latent]), self.width << (self.levels - 1)
        with b.scope("first"):
            x = b.linear(x, (self.latent, 16 * channels), HE_GAIN)
            x = b.reshape(x, [-1, channels, 4, 4])
            x = b.node("Relu", b.batch_norm(x, channels))
        for level in range(self.levels):
            last = level == self.levels - 1
            out = 3 if last else channels // 2
            with b.scope(f"up{level}"):
                x = _grow(b, x, (channels, out))
                x = b.node("Tanh", x) if last else b.node("Relu", b.batch_norm(x, out))
            channels = out
        side = 4 << self.levels
        b.output(x, "image", [self.batch, 3, side, side])
        return b.finish()


def _grow(b: Builder, x: str, channels: tuple[int, int]) -> str:
    """ConvTranspose 4x4 of stride 2 without bias: H and W double."""
    with b.scope("deconv"):
        weight = b.weight((*channels, 4, 4), 4 * channels[0])
        return b.node("ConvTranspose", x, weight, kernel_shape=[4, 4], pads=[1] * 4, strides=[2, 2])
