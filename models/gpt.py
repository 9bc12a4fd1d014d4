"""GPT-like decoders: GPT-2 (Radford et al. 2019), and with RMSNorm and rotary positions a Llama-like one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from graphpress.ir import Model
from graphpress.models import transformer
from graphpress.models.architecture import Architecture, require_multiple
from graphpress.models.builder import RESIDUAL_GAIN, Builder

_ROTARY_BASE = 10_000.0
_BOOL = 9


@dataclass(frozen=True, kw_only=True)
class Gpt(Architecture):
    """``layers=12, width=768, heads=12, vocabulary=50257, longest=1024`` is GPT-2.

    Args:
        layers: decoder blocks.
        width: features of a token.
        heads: attention heads; divides ``width``.
        vocabulary: number of tokens known.
        longest: most positions in a sequence.
        sequence: a fixed sequence length, or the name of a dynamic one.
        mask: the causal mask: ``constant``: sliced from a boolean table; ``trilu``: made at run time.
        norm: ``layer`` or ``rms``; the latter goes with a gated SiLU in place of Gelu, as in Llama.
        rotary: rotary positions on query and key in place of a learned table.
        tied: the output layer reads the token table, transposed; its input is scaled to keep logits near 1.
    """

    layers: int = 2
    width: int = 64
    heads: int = 4
    vocabulary: int = 100
    longest: int = 64
    sequence: int | str = "sequence"
    mask: Literal["constant", "trilu"] = "constant"
    norm: Literal["layer", "rms"] = "layer"
    rotary: bool = False
    tied: bool = True

    def build(self) -> Model:
        """From ``input_ids``, int64 (N, L), to ``logits`` (N, L, vocabulary)."""
        block = transformer.Block(self.width, self.heads, 4 * self.width)
        if self.rotary:
            require_multiple("width", self.width, 2 * self.heads)
        b = self.builder()
        ids = b.input("input_ids", [self.batch, self.sequence], np.int64)
        table = transformer.embedding(b, "tokens", (self.vocabulary, self.width))
        length = b.size(ids, 1)
        x = b.node("Gather", table, ids)
        if not self.rotary:
            places = transformer.embedding(b, "positions", (self.longest, self.width))
            x = b.node("Add", x, b.slice(places, 0, length, axis=0))
        allowed = self._mask(b, length)
        for layer in range(self.layers):
            with b.scope(f"layers.{layer}"):
                x = self._layer(b, x, allowed, block)
        logits = self._head(b, self._norm(b, "norm", x), table)
        b.output(logits, "logits", [self.batch, self.sequence, self.vocabulary])
        return b.finish()

    def _mask(self, b: Builder, length: str) -> str:
        """True where a position may be read: (1, 1, L, L) or (L, L)."""
        with b.scope("causal"):
            if self.mask == "constant":
                table = b.constant(np.tril(np.ones((1, 1, self.longest, self.longest), np.bool_)), "mask")
                return b.slice(b.slice(table, 0, length, axis=2), 0, length, axis=3)
            square = b.node("Concat", length, length, axis=0)
            ones = b.node("Expand", b.literal(1.0), square)
            return b.node("Cast", b.node("Trilu", ones, upper=0), to=_BOOL)

    def _layer(self, b: Builder, x: str, allowed: str, block: transformer.Block) -> str:
        y = self._norm(b, "attention_norm", x)
        with b.scope("attention"):
            query, key, value = self._projections(b, y, block)
            weights = b.node("Where", allowed, transformer.scores(b, query, key, block), b.literal(transformer.MASKED))
            x = b.node("Add", transformer.attend(b, weights, value, block), x)
        y = self._norm(b, "mlp_norm", x)
        if self.norm == "layer":
            return b.node("Add", transformer.feed_forward(b, y, block, "gelu_tanh"), x)
        return b.node("Add", _gated_feed_forward(b, y, block), x)

    def _projections(self, b: Builder, x: str, block: transformer.Block) -> tuple[str, str, str]:
        """Query, key and value from one linear layer, split, heads apart and, if asked, rotated."""
        with b.scope("qkv"):
            joint = b.projection(x, (block.width, 3 * block.width))
        query, key, value = (
            transformer.split_heads(b, part, block) for part in b.split(joint, [block.width] * 3, axis=2)
        )
        if self.rotary:
            query, key = (self._rotate(b, part, block) for part in (query, key))
        return query, key, value

    def _rotate(self, b: Builder, x: str, block: transformer.Block) -> str:
        """Rotary positions: x * cos + (-x2, x1) * sin over the halves x1, x2 of each head."""
        half = block.head_width // 2
        angles = np.outer(np.arange(self.longest), _ROTARY_BASE ** (-np.arange(half) / half))
        waves = np.tile(angles, 2).astype(np.float32)
        length = b.size(x, 2)
        cosine, sine = (
            b.slice(b.constant(function(waves), function.__name__), 0, length, axis=0) for function in (np.cos, np.sin)
        )
        first, second = b.slice(x, 0, half, axis=3), b.slice(x, half, 2 * half, axis=3)
        turned = b.node("Concat", b.node("Neg", second), first, axis=-1)
        return b.node("Add", b.node("Mul", x, cosine), b.node("Mul", turned, sine))

    def _norm(self, b: Builder, name: str, x: str) -> str:
        with b.scope(name):
            if self.norm == "rms":
                return transformer.rms_norm(b, x, self.width)
            return transformer.layer_norm(b, x, self.width)

    def _head(self, b: Builder, x: str, table: str) -> str:
        with b.scope("head"):
            if self.tied:
                scaled = b.node("Mul", x, b.literal(float(self.width**-0.5)))
                return b.node("MatMul", scaled, b.node("Transpose", table, perm=[1, 0]))
            return b.projection(x, (self.width, self.vocabulary), bias=False)


def _gated_feed_forward(b: Builder, x: str, block: transformer.Block) -> str:
    """down(silu(gate(x)) * up(x)), without biases."""
    with b.scope("mlp.gate"):
        gate = b.projection(x, (block.width, block.hidden), bias=False)
    with b.scope("mlp.up"):
        up = b.projection(x, (block.width, block.hidden), bias=False)
    product = b.node("Mul", b.node("Mul", gate, b.node("Sigmoid", gate)), up)
    with b.scope("mlp.down"):
        return b.projection(product, (block.hidden, block.width), RESIDUAL_GAIN, bias=False)
