"""DLRM (Naumov et al. 2019): embeddings and an MLP, their pairwise products, and another MLP."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphpress.ir import Model
from graphpress.models import blocks, transformer
from graphpress.models.architecture import Architecture
from graphpress.models.builder import HE_GAIN, LINEAR_GAIN, Builder


@dataclass(frozen=True, kw_only=True)
class Recommender(Architecture):
    """Click prediction from numbers and categories.

    Args:
        numbers: numerical features.
        tables: categorical features.
        entries: rows of each table.
        width: of an embedding.
        hidden: width of the MLPs' hidden layers.
    """

    numbers: int = 6
    tables: int = 4
    entries: int = 20
    width: int = 16
    hidden: int = 64

    def build(self) -> Model:
        """From ``numbers`` (N, numbers) and ``categories``, int64 (N, tables), to ``click`` (N, 1), 0 to 1."""
        b = self.builder()
        numbers = b.input("numbers", [self.batch, self.numbers])
        categories = b.input("categories", [self.batch, self.tables], np.int64)
        dense = self._mlp(b, "bottom", numbers, (self.numbers, self.hidden, self.width))
        rows = [dense]
        for index in range(self.tables):
            table = transformer.embedding(b, f"tables.{index}", (self.entries, self.width))
            picked = b.node("Gather", categories, b.literal(np.array(index)), axis=1)
            rows.append(b.node("Gather", table, picked, axis=0))
        stacked = b.node("Concat", *(b.node("Unsqueeze", row, b.literal([1])) for row in rows), axis=1)
        products = b.node("MatMul", stacked, b.node("Transpose", stacked, perm=[0, 2, 1]))
        products = b.node("Mul", products, b.literal(float(self.width**-0.5)))
        count = len(rows)
        flat = b.reshape(products, [blocks.batch_of(b, products, self.batch), count * count])
        pairs = b.node("Gather", flat, b.literal(np.flatnonzero(np.tri(count, k=-1))), axis=1)
        joint = b.node("Concat", dense, pairs, axis=1)
        x = self._mlp(b, "top", joint, (self.width + count * (count - 1) // 2, self.hidden, 1))
        b.output(b.node("Sigmoid", x), "click", [self.batch, 1])
        return b.finish()

    def _mlp(self, b: Builder, name: str, x: str, widths: tuple[int, int, int]) -> str:
        with b.scope(f"{name}.0"):
            x = b.node("Relu", b.linear(x, widths[:2], HE_GAIN))
        with b.scope(f"{name}.1"):
            return b.linear(x, widths[1:], LINEAR_GAIN)
