"""ConvNeXt (Liu et al. 2022): 7x7 depthwise convolution, layer norm and an MLP on channels laid last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphpress.ir import Model
from graphpress.models import blocks
from graphpress.models.architecture import Architecture, require_multiple
from graphpress.models.builder import LINEAR_GAIN, Builder, Conv


@dataclass(frozen=True, kw_only=True)
class ConvNeXt(Architecture):
    """``blocks=(3, 3, 9, 3), width=96, image=224, classes=1000`` is ConvNeXt-T.

    Args:
        blocks: of each stage.
        width: channels of the first stage; each further one doubles them.
        image: height and width, a multiple of ``4 * 2**(len(blocks) - 1)``.
        classes: size of the output.
    """

    blocks: Sequence[int] = (2, 2, 2)
    width: int = 24
    image: int = 64
    classes: int = 10

    def build(self) -> Model:
        """From ``input`` (N, 3, H, W) to ``logits`` (N, classes)."""
        require_multiple("image", self.image, 2 << len(self.blocks))
        b = self.builder()
        x, channels = b.input("input", [self.batch, 3, self.image, self.image]), 3
        for stage, count in enumerate(self.blocks):
            out = self.width << stage
            with b.scope(f"downsample.{stage}"):
                x = _norm(b, x, channels) if stage else x
                x = blocks.patches(b, x, (channels, out), 2 if stage else 4)
                x = x if stage else _norm(b, x, out)
            channels = out
            for index in range(count):
                with b.scope(f"stages.{stage}.{index}"):
                    x = _block(b, x, channels)
        x = b.node("Flatten", b.node("GlobalAveragePool", x), axis=1)
        with b.scope("norm"):
            x = blocks.layer_norm(b, x, channels)
        with b.scope("head"):
            b.output(b.linear(x, (channels, self.classes)), "logits", [self.batch, self.classes])
        return b.finish()


def _norm(b: Builder, x: str, channels: int) -> str:
    """Layer norm over channels that are laid second."""
    with b.scope("norm"):
        x = blocks.layer_norm(b, b.node("Transpose", x, perm=[0, 2, 3, 1]), channels)
    return b.node("Transpose", x, perm=[0, 3, 1, 2])


def _block(b: Builder, x: str, channels: int) -> str:
    with b.scope("dwconv"):
        y = b.conv(x, Conv((channels, channels), 7, groups=channels, bias=True, gain=LINEAR_GAIN))
    y = b.node("Transpose", y, perm=[0, 2, 3, 1])
    with b.scope("norm"):
        y = blocks.layer_norm(b, y, channels)
    with b.scope("mlp"):
        y = blocks.mlp(b, y, (channels, 4 * channels, channels))
    y = b.node("Mul", b.near_one(channels, "gamma"), y)
    return b.node("Add", x, b.node("Transpose", y, perm=[0, 3, 1, 2]))
