"""The parts that BERT, GPT and ViT share, written as exporters do: many small nodes and run-time shapes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from graphpress.models.architecture import require_multiple
from graphpress.models.builder import HE_GAIN, RESIDUAL_GAIN, Builder

MASKED = float(np.finfo(np.float32).min)
"""Added to, or put in place of, the attention scores that must not count."""


@dataclass(frozen=True)
class Block:
    """Sizes of one transformer block; ``width`` is a multiple of ``heads``, and of twice that for rotary positions."""

    width: int
    heads: int
    hidden: int

    def __post_init__(self) -> None:
        require_multiple("width", self.width, self.heads)

    @property
    def head_width(self) -> int:
        """Features of one head."""
        return self.width // self.heads


def layer_norm(b: Builder, x: str, width: int, *, decomposed: bool = True) -> str:
    """LayerNormalization over the last axis, as one operator (opset 17) or as nine."""
    scale, shift = b.near_one(width), b.small(width)
    if not decomposed:
        return b.node("LayerNormalization", x, scale, shift, axis=-1, epsilon=1e-5)
    centered = b.node("Sub", x, b.mean(x, [-1]))
    variance = b.mean(b.node("Pow", centered, b.literal(2.0)), [-1])
    deviation = b.node("Sqrt", b.node("Add", variance, b.literal(1e-5)))
    return b.node("Add", b.node("Mul", b.node("Div", centered, deviation), scale), shift)


def rms_norm(b: Builder, x: str, width: int) -> str:
    """RMSNorm over the last axis, in seven operators."""
    power = b.mean(b.node("Pow", x, b.literal(2.0)), [-1])
    deviation = b.node("Sqrt", b.node("Add", power, b.literal(1e-6)))
    return b.node("Mul", b.near_one(width), b.node("Mul", x, b.node("Div", b.literal(1.0), deviation)))


def gelu(b: Builder, x: str) -> str:
    """The exact Gelu, x/2 * (1 + erf(x/sqrt 2)), in five operators."""
    raised = b.node("Add", b.node("Erf", b.node("Div", x, b.literal(float(np.sqrt(2))))), b.literal(1.0))
    return b.node("Mul", b.node("Mul", x, raised), b.literal(0.5))


def gelu_tanh(b: Builder, x: str) -> str:
    """The tanh approximation of Gelu, as GPT-2 has it."""
    cubic = b.node("Mul", b.node("Pow", x, b.literal(3.0)), b.literal(0.044715))
    inner = b.node("Mul", b.node("Add", x, cubic), b.literal(float(np.sqrt(2 / np.pi))))
    return b.node("Mul", b.node("Mul", x, b.literal(0.5)), b.node("Add", b.node("Tanh", inner), b.literal(1.0)))


def split_heads(b: Builder, x: str, block: Block) -> str:
    """(N, L, width) to (N, heads, L, width / heads), with N and L read from the shape at run time."""
    x = b.reshape(x, [b.size(x, 0), b.size(x, 1), block.heads, block.head_width])
    return b.node("Transpose", x, perm=[0, 2, 1, 3])


def merge_heads(b: Builder, x: str, block: Block) -> str:
    """The inverse of ``split_heads``."""
    x = b.node("Transpose", x, perm=[0, 2, 1, 3])
    return b.reshape(x, [b.size(x, 0), b.size(x, 1), block.width])


def scores(b: Builder, query: str, key: str, block: Block) -> str:
    """Scaled dot products: (N, heads, L, L)."""
    product = b.node("MatMul", query, b.node("Transpose", key, perm=[0, 1, 3, 2]))
    return b.node("Div", product, b.literal(float(np.sqrt(block.head_width))))


def attend(b: Builder, weights: str, value: str, block: Block) -> str:
    """Softmax, weighted sum of the values and output projection: (N, L, width)."""
    mixed = merge_heads(b, b.node("MatMul", b.node("Softmax", weights, axis=-1), value), block)
    with b.scope("output"):
        return b.projection(mixed, (block.width, block.width), RESIDUAL_GAIN)


def separate_projections(b: Builder, x: str, block: Block) -> tuple[str, str, str]:
    """Query, key and value from three linear layers, heads split."""
    results = []
    for name in ("query", "key", "value"):
        with b.scope(name):
            results.append(split_heads(b, b.projection(x, (block.width, block.width)), block))
    query, key, value = results
    return query, key, value


def feed_forward(b: Builder, x: str, block: Block, activation: Literal["gelu", "gelu_tanh"] = "gelu") -> str:
    """Two linear layers with a Gelu between them."""
    with b.scope("mlp.up"):
        x = b.projection(x, (block.width, block.hidden), HE_GAIN)
    x = gelu(b, x) if activation == "gelu" else gelu_tanh(b, x)
    with b.scope("mlp.down"):
        return b.projection(x, (block.hidden, block.width), RESIDUAL_GAIN)


def embedding(b: Builder, name: str, shape: tuple[int, int]) -> str:
    """A table (entries, width) of unit-variance rows; feed it to Gather."""
    with b.scope(name):
        return b.weight(shape, 1, 1.0)
