"""MobileViT (Mehta and Rastegari 2021): convolutions, and transformers over equal places of all patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphpress.ir import Model
from graphpress.models import blocks, transformer
from graphpress.models.architecture import Architecture, require_multiple
from graphpress.models.builder import LINEAR_GAIN, RESIDUAL_GAIN, Builder, Conv


@dataclass(frozen=True, kw_only=True)
class MobileVit(Architecture):
    """Per stage an inverted residual of stride 2, and a MobileViT block with patches of 2 x 2.

    Args:
        layers: transformer blocks of each stage.
        width: channels of the first stage; each further one has half as many more.
        heads: attention heads; divides every stage's tokens, which are as wide as the stage.
        image: height and width, a multiple of ``4 * 2**len(layers)``.
        classes: size of the output.
    """

    layers: Sequence[int] = (1, 1)
    width: int = 16
    heads: int = 4
    image: int = 64
    classes: int = 10

    def build(self) -> Model:
        """From ``input`` (N, 3, H, W) to ``logits`` (N, classes)."""
        require_multiple("image", self.image, 4 << len(self.layers))
        b = self.builder()
        x = b.input("input", [self.batch, 3, self.image, self.image])
        side, channels = self.image // 2, self.width
        x = blocks.silu_unit(b, "stem", x, Conv((3, channels), 3, 2))
        for stage, layers in enumerate(self.layers):
            side, out = side // 2, self.width + stage * self.width // 2
            with b.scope(f"stages.{stage}.0"):
                x = self._inverted(b, x, (channels, out))
            with b.scope(f"stages.{stage}.1"):
                x = self._block(b, x, out, layers, side)
            channels = out
        x = blocks.silu_unit(b, "last", x, Conv((channels, 4 * channels), 1))
        with b.scope("head"):
            b.output(b.classifier(x, 4 * channels, self.classes), "logits", [self.batch, self.classes])
        return b.finish()

    def _inverted(self, b: Builder, x: str, channels: tuple[int, int]) -> str:
        inner = 4 * channels[0]
        x = blocks.silu_unit(b, "expand", x, Conv((channels[0], inner), 1))
        x = blocks.silu_unit(b, "depthwise", x, Conv((inner, inner), 3, 2, groups=inner))
        return b.conv_norm("project", x, Conv((inner, channels[1]), 1, gain=LINEAR_GAIN))

    def _block(self, b: Builder, x: str, width: int, layers: int, side: int) -> str:
        """Local convolutions, transformers on unfolded patches, and a convolution that joins the input."""
        block = transformer.Block(width, self.heads, 2 * width)
        y = blocks.silu_unit(b, "local", x, Conv((width, width)))
        with b.scope("widen"):
            y = b.conv(y, Conv((width, width), 1, gain=LINEAR_GAIN))
        y = self._unfold(b, y, width, side)
        for layer in range(layers):
            with b.scope(f"transformer.{layer}"):
                y = self._layer(b, y, block)
        with b.scope("norm"):
            y = blocks.layer_norm(b, y, width)
        y = blocks.silu_unit(b, "narrow", self._fold(b, y, width, side), Conv((width, width), 1))
        return blocks.silu_unit(b, "fuse", b.node("Concat", x, y, axis=1), Conv((2 * width, width)))

    def _unfold(self, b: Builder, x: str, width: int, side: int) -> str:
        """(N, C, H, W) to (N * 4, patches, C): the place inside a patch joins the batch."""
        half = side // 2
        x = b.node("Transpose", b.reshape(x, [-1, 2, half, 2]), perm=[0, 2, 1, 3])
        x = b.reshape(x, [-1, width, half * half, 4])
        return b.reshape(b.node("Transpose", x, perm=[0, 3, 2, 1]), [-1, half * half, width])

    def _fold(self, b: Builder, x: str, width: int, side: int) -> str:
        """The inverse of ``_unfold``."""
        half = side // 2
        x = b.node("Transpose", b.reshape(x, [-1, 4, half * half, width]), perm=[0, 3, 2, 1])
        x = b.node("Transpose", b.reshape(x, [-1, half, 2, 2]), perm=[0, 2, 1, 3])
        return b.reshape(x, [-1, width, side, side])

    def _layer(self, b: Builder, x: str, block: transformer.Block) -> str:
        with b.scope("norm1"):
            y = blocks.layer_norm(b, x, block.width)
        with b.scope("attention"):
            query, key, value = transformer.separate_projections(b, y, block)
            x = b.node("Add", x, transformer.attend(b, transformer.scores(b, query, key, block), value, block))
        with b.scope("norm2"):
            y = blocks.layer_norm(b, x, block.width)
        with b.scope("mlp.up"):
            y = blocks.silu(b, b.projection(y, (block.width, block.hidden)))
        with b.scope("mlp.down"):
            return b.node("Add", x, b.projection(y, (block.hidden, block.width), RESIDUAL_GAIN))
