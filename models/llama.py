"""Llama-like decoder (Touvron et al. 2023): RMSNorm, rotary positions, grouped queries, gated SiLU."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphpress.ir import Model
from graphpress.models import blocks, transformer
from graphpress.models.architecture import Architecture, require_multiple
from graphpress.models.builder import HE_GAIN, RESIDUAL_GAIN, Builder

_ROTARY_BASE = 10_000.0


@dataclass(frozen=True, kw_only=True)
class Llama(Architecture):
    """``layers=32, width=4096, heads=32, groups=8, hidden=14336, vocabulary=128256`` is Llama-3-8B.

    Args:
        layers: decoder blocks.
        width: features of a token, a multiple of ``2 * heads``.
        heads: query heads.
        groups: heads of keys and values; divides ``heads``.
        hidden: width between the linear layers of the MLP.
        vocabulary: number of tokens known.
        sequence: a fixed sequence length, or the name of a dynamic one.
    """

    layers: int = 2
    width: int = 64
    heads: int = 4
    groups: int = 2
    hidden: int = 128
    vocabulary: int = 100
    sequence: int | str = "sequence"

    def build(self) -> Model:
        """From ``input_ids``, int64 (N, L), to ``logits`` (N, L, vocabulary)."""
        require_multiple("width", self.width, 2 * self.heads)
        require_multiple("heads", self.heads, self.groups)
        block = transformer.Block(self.width, self.heads, self.hidden)
        b = self.builder()
        ids = b.input("input_ids", [self.batch, self.sequence], np.int64)
        x = b.node("Gather", transformer.embedding(b, "tokens", (self.vocabulary, self.width)), ids)
        waves, mask = self._waves(b, ids, block), self._mask(b, ids)
        for layer in range(self.layers):
            with b.scope(f"layers.{layer}"):
                x = self._layer(b, x, waves, mask, block)
        x = self._norm(b, "norm", x)
        with b.scope("lm_head"):
            x = b.projection(x, (self.width, self.vocabulary), bias=False)
        b.output(x, "logits", [self.batch, self.sequence, self.vocabulary])
        return b.finish()

    def _waves(self, b: Builder, ids: str, block: transformer.Block) -> tuple[str, str]:
        """Cosine and sine of position times frequency, (1, 1, L, head width), computed at run time."""
        half = block.head_width // 2
        frequencies = (_ROTARY_BASE ** (-np.arange(half) / half)).astype(np.float32)
        with b.scope("rotary"):
            places = b.node("Cast", self._positions(b, ids), to=1)
            column = b.node("Unsqueeze", places, b.literal([1]))
            angles = b.node("Mul", column, b.constant(frequencies[None], "inv_freq"))
            angles = b.node("Unsqueeze", b.node("Concat", angles, angles, axis=-1), b.literal([0, 1]))
            return b.node("Cos", angles), b.node("Sin", angles)

    def _positions(self, b: Builder, ids: str) -> str:
        length = b.node("Squeeze", b.size(ids, 1), b.literal([0]))
        return b.node("Range", b.literal(np.array(0)), length, b.literal(np.array(1)))

    def _mask(self, b: Builder, ids: str) -> str:
        """Added to the scores: 0 up to a position itself, a huge negative number after it."""
        with b.scope("causal"):
            places = self._positions(b, ids)
            later = b.node(
                "Less", b.node("Unsqueeze", places, b.literal([1])), b.node("Unsqueeze", places, b.literal([0]))
            )
            return b.node("Where", later, b.literal(transformer.MASKED), b.literal(0.0))

    def _layer(self, b: Builder, x: str, waves: tuple[str, str], mask: str, block: transformer.Block) -> str:
        y = self._norm(b, "input_norm", x)
        with b.scope("attention"):
            query = _rotate(b, self._heads(b, "q", y, self.heads, block), waves, block)
            key = _rotate(b, self._heads(b, "k", y, self.groups, block), waves, block)
            key, value = (self._repeat(b, z, block) for z in (key, self._heads(b, "v", y, self.groups, block)))
            weights = b.node("Add", transformer.scores(b, query, key, block), mask)
            mixed = b.node("MatMul", b.node("Softmax", weights, axis=-1), value)
            mixed = transformer.merge_heads(b, mixed, block)
            with b.scope("o"):
                x = b.node("Add", x, b.projection(mixed, (self.width, self.width), RESIDUAL_GAIN, bias=False))
        return b.node("Add", x, self._gated(b, self._norm(b, "mlp_norm", x)))

    def _heads(self, b: Builder, name: str, x: str, heads: int, block: transformer.Block) -> str:
        """(N, L, width) to (N, heads, L, head width)."""
        with b.scope(name):
            x = b.projection(x, (self.width, heads * block.head_width), bias=False)
        x = b.reshape(x, [b.size(x, 0), b.size(x, 1), heads, block.head_width])
        return b.node("Transpose", x, perm=[0, 2, 1, 3])

    def _repeat(self, b: Builder, x: str, block: transformer.Block) -> str:
        """Give each query head a copy of the key or value head of its group."""
        batch, length, copies = b.size(x, 0), b.size(x, 2), self.heads // self.groups
        wide = b.node("Unsqueeze", x, b.literal([2]))
        wide = b.node("Expand", wide, b.sizes([batch, self.groups, copies, length, block.head_width]))
        return b.reshape(wide, [batch, self.heads, length, block.head_width])

    def _gated(self, b: Builder, x: str) -> str:
        with b.scope("mlp.gate"):
            gate = blocks.silu(b, b.projection(x, (self.width, self.hidden), HE_GAIN, bias=False))
        with b.scope("mlp.up"):
            up = b.projection(x, (self.width, self.hidden), bias=False)
        with b.scope("mlp.down"):
            return b.projection(b.node("Mul", gate, up), (self.hidden, self.width), RESIDUAL_GAIN, bias=False)

    def _norm(self, b: Builder, name: str, x: str) -> str:
        with b.scope(name):
            return transformer.rms_norm(b, x, self.width)


def _rotate(b: Builder, x: str, waves: tuple[str, str], block: transformer.Block) -> str:
    """X * cos + (-x2, x1) * sin over the halves x1, x2 of each head."""
    half = block.head_width // 2
    turned = b.node("Concat", b.node("Neg", b.slice(x, half, 2 * half, axis=3)), b.slice(x, 0, half, axis=3), axis=-1)
    return b.node("Add", b.node("Mul", x, waves[0]), b.node("Mul", turned, waves[1]))
