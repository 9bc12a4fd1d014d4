"""BERT (Devlin et al. 2018): post-norm encoder with a padding mask and a pooler."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphpress.ir import Model
from graphpress.models import transformer
from graphpress.models.architecture import Architecture
from graphpress.models.builder import Builder


@dataclass(frozen=True, kw_only=True)
class Bert(Architecture):
    """``layers=12, width=768, heads=12, vocabulary=30522, longest=512, classes=2`` is BERT-base.

    Args:
        layers: encoder blocks.
        width: features of a token.
        heads: attention heads; divides ``width``.
        vocabulary: number of tokens known.
        longest: most positions in a sequence.
        sequence: a fixed sequence length, or the name of a dynamic one.
        classes: size of the classifier on the first token.
        decomposed: express LayerNormalization as nine nodes.
    """

    layers: int = 2
    width: int = 64
    heads: int = 4
    vocabulary: int = 100
    longest: int = 64
    sequence: int | str = "sequence"
    classes: int = 2
    decomposed: bool = True

    def build(self) -> Model:
        """From ``input_ids``, ``attention_mask`` and ``token_type_ids``, int64 (N, L), to ``last_hidden_state``
        (N, L, width) and ``logits`` (N, classes).
        """
        block = transformer.Block(self.width, self.heads, 4 * self.width)
        b = self.builder()
        dims = [self.batch, self.sequence]
        ids, mask, kinds = (b.input(name, dims, np.int64) for name in ("input_ids", "attention_mask", "token_type_ids"))
        bias = _mask_bias(b, mask)
        with b.scope("embeddings"):
            x = self._embed(b, ids, kinds)
        for layer in range(self.layers):
            with b.scope(f"encoder.layer.{layer}"):
                x = self._layer(b, x, bias, block)
        logits = self._classify(b, x)
        b.output(x, "last_hidden_state", [*dims, self.width])
        b.output(logits, "logits", [self.batch, self.classes])
        return b.finish()

    def _embed(self, b: Builder, ids: str, kinds: str) -> str:
        tokens = b.node("Gather", transformer.embedding(b, "word", (self.vocabulary, self.width)), ids)
        types = b.node("Gather", transformer.embedding(b, "token_type", (2, self.width)), kinds)
        positions = b.slice(b.constant(np.arange(self.longest)[None], "position_ids"), 0, b.size(ids, 1), axis=1)
        places = b.node("Gather", transformer.embedding(b, "position", (self.longest, self.width)), positions)
        return self._norm(b, "norm", b.node("Add", b.node("Add", tokens, types), places))

    def _layer(self, b: Builder, x: str, bias: str, block: transformer.Block) -> str:
        with b.scope("attention"):
            query, key, value = transformer.separate_projections(b, x, block)
            weights = b.node("Add", transformer.scores(b, query, key, block), bias)
            y = transformer.attend(b, weights, value, block)
        x = self._norm(b, "attention.norm", b.node("Add", y, x))
        return self._norm(b, "norm", b.node("Add", transformer.feed_forward(b, x, block), x))

    def _norm(self, b: Builder, name: str, x: str) -> str:
        with b.scope(name):
            return transformer.layer_norm(b, x, self.width, decomposed=self.decomposed)

    def _classify(self, b: Builder, x: str) -> str:
        with b.scope("pooler"):
            first = b.node("Gather", x, b.literal(np.array(0)), axis=1)
            pooled = b.node("Tanh", b.linear(first, (self.width, self.width)))
        with b.scope("classifier"):
            return b.linear(pooled, (self.width, self.classes))


def _mask_bias(b: Builder, mask: str) -> str:
    """0 where a token counts and a huge negative number where it is padding: (N, 1, 1, L)."""
    wide = b.node("Unsqueeze", b.node("Unsqueeze", mask, b.literal([1])), b.literal([2]))
    padding = b.node("Sub", b.literal(1.0), b.node("Cast", wide, to=1))
    return b.node("Mul", padding, b.literal(transformer.MASKED))
