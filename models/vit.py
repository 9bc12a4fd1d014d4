"""Vision transformer (Dosovitskiy et al. 2020): patches, a class token, pre-norm encoder blocks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphpress.ir import Model
from graphpress.models import transformer
from graphpress.models.architecture import Architecture, require_multiple
from graphpress.models.builder import LINEAR_GAIN, Builder


@dataclass(frozen=True, kw_only=True)
class Vit(Architecture):
    """``layers=12, width=768, heads=12, patch=16, image=224, classes=1000`` is ViT-B/16.

    Args:
        layers: encoder blocks.
        width: features of a patch.
        heads: attention heads; divides ``width``.
        patch: height and width of a patch.
        image: height and width, a multiple of ``patch``.
        classes: size of the output.
        decomposed: express LayerNormalization as nine nodes.
    """

    layers: int = 2
    width: int = 64
    heads: int = 4
    patch: int = 8
    image: int = 32
    classes: int = 10
    decomposed: bool = True

    def build(self) -> Model:
        """From ``input`` (N, 3, H, W) to ``logits`` (N, classes)."""
        require_multiple("image", self.image, self.patch)
        block = transformer.Block(self.width, self.heads, 4 * self.width)
        b = self.builder()
        x = self._embed(b, b.input("input", [self.batch, 3, self.image, self.image]))
        for layer in range(self.layers):
            with b.scope(f"blocks.{layer}"):
                x = self._layer(b, x, block)
        first = b.node("Gather", self._norm(b, "norm", x), b.literal(np.array(0)), axis=1)
        with b.scope("head"):
            b.output(b.linear(first, (self.width, self.classes)), "logits", [self.batch, self.classes])
        return b.finish()

    def _embed(self, b: Builder, x: str) -> str:
        patches = (self.image // self.patch) ** 2
        with b.scope("patch_embed"):
            weight = b.weight((self.width, 3, self.patch, self.patch), 3 * self.patch**2, LINEAR_GAIN)
            window = [self.patch] * 2
            x = b.node("Conv", x, weight, b.small(self.width), kernel_shape=window, strides=window)
            batch = b.size(x, 0)
            x = b.node("Transpose", b.reshape(x, [batch, self.width, patches]), perm=[0, 2, 1])
        token = b.parameter("cls_token", b.random.standard_normal((1, 1, self.width), np.float32))
        x = b.node("Concat", b.node("Expand", token, b.sizes([batch, 1, self.width])), x, axis=1)
        places = b.random.standard_normal((1, patches + 1, self.width), np.float32)
        return b.node("Add", x, b.parameter("pos_embed", places))

    def _layer(self, b: Builder, x: str, block: transformer.Block) -> str:
        y = self._norm(b, "norm1", x)
        with b.scope("attention"):
            query, key, value = transformer.separate_projections(b, y, block)
            y = transformer.attend(b, transformer.scores(b, query, key, block), value, block)
            x = b.node("Add", x, y)
        return b.node("Add", x, transformer.feed_forward(b, self._norm(b, "norm2", x), block))

    def _norm(self, b: Builder, name: str, x: str) -> str:
        with b.scope(name):
            return transformer.layer_norm(b, x, self.width, decomposed=self.decomposed)
