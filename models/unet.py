"""U-Net (Ronneberger et al. 2015): an encoder, a decoder, and skips concatenated between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from graphpress.ir import Model
from graphpress.models.architecture import Architecture, require_multiple
from graphpress.models.builder import Builder, Conv


@dataclass(frozen=True, kw_only=True)
class UNet(Architecture):
    """``levels=4, width=64, image=512`` is about the paper's model.

    Args:
        levels: how often the resolution is halved.
        width: channels at full resolution.
        image: height and width, or the name of a dynamic size (a multiple of ``2**levels``).
        classes: channels of the output.
        upsample: ``transpose``: ConvTranspose; ``resize``: nearest Resize to the skip's run-time size, computed by
            Shape, Slice and Concat as exporters write it, and a 1x1 convolution.
        batch_norm: keep BatchNormalization nodes; else convolutions have biases, as after folding.
    """

    levels: int = 3
    width: int = 8
    image: int | str = 64
    classes: int = 2
    upsample: Literal["transpose", "resize"] = "transpose"
    batch_norm: bool = True

    def build(self) -> Model:
        """From ``input`` (N, 3, H, W) to ``mask`` (N, classes, H, W), logits per pixel."""
        require_multiple("image", self.image, 2**self.levels)
        height, width = (f"{self.image}_{axis}" if isinstance(self.image, str) else self.image for axis in "hw")
        b = self.builder()
        x = b.input("input", [self.batch, 3, height, width])
        skips: list[str] = []
        channels = 3
        for level in range(self.levels + 1):
            with b.scope(f"encoder.{level}"):
                x = b.pool("MaxPool", x, 2, 2) if level else x
                x = self._double_conv(b, x, (channels, self.width << level))
            channels = self.width << level
            skips.append(x)
        for level in reversed(range(self.levels)):
            with b.scope(f"decoder.{level}"):
                x = b.node("Concat", skips[level], self._upsample(b, x, channels, skips[level]), axis=1)
                x = self._double_conv(b, x, (channels, channels // 2))
            channels //= 2
        with b.scope("head"):
            x = b.conv(x, Conv((channels, self.classes), 1, bias=True, gain=1.0))
        b.output(x, "mask", [self.batch, self.classes, height, width])
        return b.finish()

    def _double_conv(self, b: Builder, x: str, channels: tuple[int, int]) -> str:
        x = b.node("Relu", b.conv_norm("0", x, Conv(channels), norm=self.batch_norm))
        return b.node("Relu", b.conv_norm("1", x, Conv((channels[1], channels[1])), norm=self.batch_norm))

    def _upsample(self, b: Builder, x: str, channels: int, skip: str) -> str:
        with b.scope("up"):
            if self.upsample == "transpose":
                return b.upsample_conv(x, (channels, channels // 2))
            kept = b.slice(b.node("Shape", x), 0, 2, axis=0)
            target = b.slice(b.node("Shape", skip), 2, 4, axis=0)
            sizes = b.node("Concat", kept, target, axis=0)
            x = b.node(
                "Resize", x, "", "", sizes,
                coordinate_transformation_mode="asymmetric", mode="nearest", nearest_mode="floor",
            )  # fmt: skip
            return b.conv(x, Conv((channels, channels // 2), 1, bias=True, gain=1.0))
