"""MLP-Mixer (Tolstikhin et al. 2021): linear layers across patches, then across channels, in turn."""

from __future__ import annotations

from dataclasses import dataclass

from graphpress.ir import Model
from graphpress.models import blocks
from graphpress.models.architecture import Architecture, require_multiple
from graphpress.models.builder import Builder


@dataclass(frozen=True, kw_only=True)
class Mixer(Architecture):
    """``layers=12, width=768, tokens=384, hidden=3072, patch=16, image=224, classes=1000`` is Mixer-B/16.

    Args:
        layers: pairs of a token and a channel MLP.
        width: features of a patch.
        tokens: hidden width of the MLPs across patches.
        hidden: hidden width of the MLPs across channels.
        patch: height and width of a patch.
        image: height and width, a multiple of ``patch``.
        classes: size of the output.
    """

    layers: int = 3
    width: int = 32
    tokens: int = 48
    hidden: int = 128
    patch: int = 8
    image: int = 32
    classes: int = 10

    def build(self) -> Model:
        """From ``input`` (N, 3, H, W) to ``logits`` (N, classes)."""
        require_multiple("image", self.image, self.patch)
        patches = (self.image // self.patch) ** 2
        b = self.builder()
        x = b.input("input", [self.batch, 3, self.image, self.image])
        with b.scope("stem"):
            x = blocks.patches(b, x, (3, self.width), self.patch)
        x = b.reshape(x, [blocks.batch_of(b, x, self.batch), self.width, patches])
        x = b.node("Transpose", x, perm=[0, 2, 1])
        for layer in range(self.layers):
            with b.scope(f"blocks.{layer}"):
                y = b.node("Transpose", self._norm(b, "norm1", x), perm=[0, 2, 1])
                with b.scope("mlp_tokens"):
                    y = blocks.mlp(b, y, (patches, self.tokens, patches))
                x = b.node("Add", x, b.node("Transpose", y, perm=[0, 2, 1]))
                y = self._norm(b, "norm2", x)
                with b.scope("mlp_channels"):
                    x = b.node("Add", x, blocks.mlp(b, y, (self.width, self.hidden, self.width)))
        x = b.mean(self._norm(b, "norm", x), [1])
        with b.scope("head"):
            b.output(b.linear(b.node("Flatten", x, axis=1), (self.width, self.classes)), "logits",
                     [self.batch, self.classes])  # fmt: skip
        return b.finish()

    def _norm(self, b: Builder, name: str, x: str) -> str:
        with b.scope(name):
            return blocks.layer_norm(b, x, self.width)
