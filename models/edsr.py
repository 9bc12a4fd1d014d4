"""EDSR (Lim et al. 2017): super-resolution by residual blocks without norms and a pixel shuffle."""

from __future__ import annotations

from dataclasses import dataclass

from graphpress.ir import Model
from graphpress.models.architecture import Architecture
from graphpress.models.builder import HE_GAIN, LINEAR_GAIN, RESIDUAL_GAIN, Builder, Conv


@dataclass(frozen=True, kw_only=True)
class Edsr(Architecture):
    """``layers=16, width=64, factor=2`` is the EDSR baseline.

    Args:
        layers: residual blocks.
        width: channels.
        factor: by how much the image grows.
        image: height and width of the input, or the name of a dynamic size.
    """

    layers: int = 3
    width: int = 16
    factor: int = 2
    image: int | str = 32

    def build(self) -> Model:
        """From ``input`` (N, 3, H, W) to ``output`` (N, 3, factor * H, factor * W)."""
        b = self.builder()
        fixed = not isinstance(self.image, str)
        sides = [self.image, self.image] if fixed else [f"{self.image}_h", f"{self.image}_w"]
        x = b.input("input", [self.batch, 3, *sides])
        with b.scope("head"):
            head = x = b.conv(x, Conv((3, self.width), bias=True, gain=LINEAR_GAIN))
        for layer in range(self.layers):
            with b.scope(f"body.{layer}"):
                x = self._block(b, x)
        with b.scope("body.last"):
            x = b.node("Add", head, b.conv(x, Conv((self.width, self.width), bias=True, gain=RESIDUAL_GAIN)))
        with b.scope("tail.up"):
            x = b.conv(x, Conv((self.width, self.width * self.factor**2), bias=True, gain=LINEAR_GAIN))
            x = b.node("DepthToSpace", x, blocksize=self.factor, mode="CRD")
        with b.scope("tail.last"):
            x = b.conv(x, Conv((self.width, 3), bias=True, gain=LINEAR_GAIN))
        grown = [side * self.factor if isinstance(side, int) else f"{side}_out" for side in sides]
        b.output(x, "output", [self.batch, 3, *grown])
        return b.finish()

    def _block(self, b: Builder, x: str) -> str:
        with b.scope("0"):
            y = b.node("Relu", b.conv(x, Conv((self.width, self.width), bias=True, gain=HE_GAIN)))
        with b.scope("1"):
            y = b.conv(y, Conv((self.width, self.width), bias=True, gain=LINEAR_GAIN))
        return b.node("Add", x, b.node("Mul", y, b.literal(0.1)))
