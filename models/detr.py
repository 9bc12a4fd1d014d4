"""DETR (Carion et al. 2020): learned queries read an encoded image and become classes and boxes."""

from __future__ import annotations

from dataclasses import dataclass

from graphpress.ir import Model
from graphpress.models import blocks, transformer
from graphpress.models.architecture import Architecture, require_multiple
from graphpress.models.builder import HE_GAIN, LINEAR_GAIN, Builder, Conv

_BACKBONE = (2, 4, 4)
"""Channels of the convolutions before the encoder, as multiples of a quarter of its width."""


@dataclass(frozen=True, kw_only=True)
class Detr(Architecture):
    """``layers=6, width=256, heads=8, queries=100, classes=92`` and a ResNet in front is DETR.

    Args:
        layers: encoder blocks, and as many decoder blocks.
        width: features of a position and of a query, a multiple of 4.
        heads: attention heads; divides ``width``.
        queries: how many objects are looked for.
        classes: of objects, "none" included.
        image: height and width, a multiple of 16.
    """

    layers: int = 1
    width: int = 32
    heads: int = 4
    queries: int = 7
    classes: int = 5
    image: int = 64

    def build(self) -> Model:
        """From ``input`` (N, 3, H, W) to ``logits`` (N, queries, classes) and ``boxes`` (N, queries, 4), 0 to 1."""
        require_multiple("width", self.width, 4)
        require_multiple("image", self.image, 16)
        block = transformer.Block(self.width, self.heads, 4 * self.width)
        b = self.builder()
        memory = self._tokens(b, b.input("input", [self.batch, 3, self.image, self.image]))
        places = b.parameter("places", b.random.standard_normal((1, (self.image // 16) ** 2, self.width)))
        for layer in range(self.layers):
            with b.scope(f"encoder.{layer}"):
                located = b.node("Add", memory, places)
                memory = self._add(b, "norm1", memory, self._attend(b, "self", (located, located, memory), block))
                memory = self._add(b, "norm2", memory, transformer.feed_forward(b, memory, block))
        learned = b.weight((1, self.queries, self.width), 1, LINEAR_GAIN, "queries")
        batch = blocks.batch_of(b, memory, self.batch)
        x = learned = b.node("Expand", learned, b.sizes([batch, self.queries, self.width]))
        for layer in range(self.layers):
            with b.scope(f"decoder.{layer}"):
                asked = b.node("Add", x, learned)
                x = self._add(b, "norm1", x, self._attend(b, "self", (asked, asked, x), block))
                asked, located = b.node("Add", x, learned), b.node("Add", memory, places)
                x = self._add(b, "norm2", x, self._attend(b, "cross", (asked, located, memory), block))
                x = self._add(b, "norm3", x, transformer.feed_forward(b, x, block))
        self._heads(b, x)
        return b.finish()

    def _tokens(self, b: Builder, x: str) -> str:
        """A small backbone and a projection: (N, 3, H, W) to (N, H/16 * W/16, width)."""
        channels = self.width // 2
        x = blocks.stem(b, x, channels)
        with b.scope("backbone"):
            for index, factor in enumerate(_BACKBONE):
                out = factor * self.width // 4
                with b.scope(f"layer{index + 1}"):
                    middle = Conv((self.width // 4, self.width // 4), 3, 2 if index else 1)
                    x = blocks.bottleneck(b, x, (channels, out), middle)
                channels = out
        with b.scope("input_proj"):
            x = b.conv(x, Conv((channels, self.width), 1, bias=True, gain=LINEAR_GAIN))
        x = b.reshape(x, [blocks.batch_of(b, x, self.batch), self.width, (self.image // 16) ** 2])
        return b.node("Transpose", x, perm=[0, 2, 1])

    def _attend(self, b: Builder, name: str, sources: tuple[str, str, str], block: transformer.Block) -> str:
        with b.scope(name):
            parts = []
            for part, source in zip(("query", "key", "value"), sources, strict=True):
                with b.scope(part):
                    parts.append(transformer.split_heads(b, b.projection(source, (block.width, block.width)), block))
            return transformer.attend(b, transformer.scores(b, parts[0], parts[1], block), parts[2], block)

    def _add(self, b: Builder, name: str, x: str, y: str) -> str:
        with b.scope(name):
            return blocks.layer_norm(b, b.node("Add", x, y), self.width)

    def _heads(self, b: Builder, x: str) -> None:
        with b.scope("class_embed"):
            b.output(b.projection(x, (self.width, self.classes)), "logits", [self.batch, self.queries, self.classes])
        for index in range(2):
            with b.scope(f"box_embed.{index}"):
                x = b.node("Relu", b.projection(x, (self.width, self.width), HE_GAIN))
        with b.scope("box_embed.2"):
            x = b.node("Sigmoid", b.projection(x, (self.width, 4)))
        b.output(x, "boxes", [self.batch, self.queries, 4])
