"""Swin transformer (Liu et al. 2021): attention in windows that are shifted in every second block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphpress.ir import Model
from graphpress.models import blocks, transformer
from graphpress.models.architecture import Architecture, require_multiple
from graphpress.models.builder import RESIDUAL_GAIN, Builder

_HIDDEN = -100.0
"""Added to the scores between positions that the shift brought together from afar."""


@dataclass(frozen=True, kw_only=True)
class Swin(Architecture):
    """``blocks=(2, 2, 6, 2), width=96, heads=3, window=7, image=224, classes=1000`` is Swin-T.

    Args:
        blocks: of each stage.
        width: channels of the first stage; each further one doubles them.
        heads: attention heads of the first stage; each further one doubles them.
        window: height and width of a window, in patches of 4 x 4.
        image: height and width, a multiple of ``4 * window * 2**(len(blocks) - 1)``.
        classes: size of the output.
    """

    blocks: Sequence[int] = (2, 2)
    width: int = 32
    heads: int = 2
    window: int = 4
    image: int = 64
    classes: int = 10

    def build(self) -> Model:
        """From ``input`` (N, 3, H, W) to ``logits`` (N, classes)."""
        require_multiple("image", self.image, 4 * self.window << (len(self.blocks) - 1))
        b = self.builder()
        x = b.input("input", [self.batch, 3, self.image, self.image])
        side, width = self.image // 4, self.width
        with b.scope("patch_embed"):
            x = b.node("Transpose", blocks.patches(b, x, (3, width), 4), perm=[0, 2, 3, 1])
            x = blocks.layer_norm(b, x, width)
        for stage, count in enumerate(self.blocks):
            if stage:
                with b.scope(f"layers.{stage}.downsample"):
                    x = _merge_patches(b, x, width)
                side, width = side // 2, 2 * width
            block = transformer.Block(width, self.heads << stage, 4 * width)
            for index in range(count):
                with b.scope(f"layers.{stage}.{index}"):
                    x = self._layer(b, x, block, side, self.window // 2 if index % 2 and side > self.window else 0)
        with b.scope("norm"):
            x = b.mean(blocks.layer_norm(b, x, width), [1, 2])
        with b.scope("head"):
            x = b.linear(b.node("Flatten", x, axis=1), (width, self.classes))
        b.output(x, "logits", [self.batch, self.classes])
        return b.finish()

    def _layer(self, b: Builder, x: str, block: transformer.Block, side: int, shift: int) -> str:
        with b.scope("norm1"):
            y = blocks.layer_norm(b, x, block.width)
        y = self._windows(b, _roll(b, y, shift, side), block, side)
        with b.scope("attention"):
            y = self._attend(b, y, block, side, shift)
        x = b.node("Add", x, _roll(b, self._whole(b, y, block, side), -shift, side))
        with b.scope("norm2"):
            y = blocks.layer_norm(b, x, block.width)
        return b.node("Add", x, transformer.feed_forward(b, y, block))

    def _windows(self, b: Builder, x: str, block: transformer.Block, side: int) -> str:
        """(N, H, W, C) to (N * windows, positions of a window, C)."""
        window, rows = self.window, side // self.window
        x = b.reshape(x, [blocks.batch_of(b, x, self.batch), rows, window, rows, window, block.width])
        return b.reshape(b.node("Transpose", x, perm=[0, 1, 3, 2, 4, 5]), [-1, window**2, block.width])

    def _whole(self, b: Builder, x: str, block: transformer.Block, side: int) -> str:
        """The inverse of ``_windows``."""
        window, rows = self.window, side // self.window
        x = b.node("Transpose", b.reshape(x, [-1, rows, rows, window, window, block.width]), perm=[0, 1, 3, 2, 4, 5])
        return b.reshape(x, [-1, side, side, block.width])

    def _attend(self, b: Builder, x: str, block: transformer.Block, side: int, shift: int) -> str:
        """Attention in each window, with a learned bias for each head and relative position."""
        count, heads = self.window**2, block.heads
        with b.scope("qkv"):
            joint = b.projection(x, (block.width, 3 * block.width))
        joint = b.reshape(joint, [b.size(x, 0), count, 3, heads, block.head_width])
        joint = b.node("Transpose", joint, perm=[2, 0, 3, 1, 4])
        query, key, value = (b.node("Gather", joint, b.literal(np.array(part)), axis=0) for part in range(3))
        query = b.node("Mul", query, b.literal(float(block.head_width**-0.5)))
        weights = b.node("MatMul", query, b.node("Transpose", key, perm=[0, 1, 3, 2]))
        table = b.weight(((2 * self.window - 1) ** 2, heads), 1, RESIDUAL_GAIN, "relative_position_bias_table")
        bias = b.node("Gather", table, b.literal(_relative_positions(self.window).reshape(-1)), axis=0)
        bias = b.node("Transpose", b.reshape(bias, [count, count, heads]), perm=[2, 0, 1])
        weights = b.node("Add", weights, b.node("Unsqueeze", bias, b.literal([0])))
        if shift:
            windows = (side // self.window) ** 2
            mask = b.constant(_shift_mask(side, self.window, shift), "attn_mask")
            weights = b.node("Add", b.reshape(weights, [-1, windows, heads, count, count]), mask)
            weights = b.reshape(weights, [-1, heads, count, count])
        return transformer.attend(b, weights, value, block)


def _roll(b: Builder, x: str, shift: int, side: int) -> str:
    """Move rows and columns up by ``shift`` positions, around the edge."""
    for axis in (1, 2) if shift else ():
        cut = shift % side
        x = b.node("Concat", b.slice(x, cut, side, axis), b.slice(x, 0, cut, axis), axis=axis)
    return x


def _merge_patches(b: Builder, x: str, width: int) -> str:
    """(N, H, W, C) to (N, H/2, W/2, 2C): four neighbors concatenated, normalized and projected."""
    ends, axes, steps = (b.literal(numbers) for numbers in ([2**31 - 1] * 2, [1, 2], [2, 2]))
    parts = [b.node("Slice", x, b.literal([row, column]), ends, axes, steps) for column in (0, 1) for row in (0, 1)]
    x = blocks.layer_norm(b, b.node("Concat", *parts, axis=-1), 4 * width)
    return b.projection(x, (4 * width, 2 * width), bias=False)


def _relative_positions(window: int) -> np.ndarray:
    """For each pair of positions in a window, the row of the table that holds their bias."""
    rows, columns = np.divmod(np.arange(window**2), window)
    down, right = (np.subtract.outer(place, place) + window - 1 for place in (rows, columns))
    return np.asarray(down * (2 * window - 1) + right)


def _shift_mask(side: int, window: int, shift: int) -> np.ndarray:
    """0 where two positions of a window may see each other, a large negative number elsewhere."""
    zone = np.searchsorted([side - window, side - shift], np.arange(side), side="right")
    tiles = (3 * zone[:, None] + zone).reshape(side // window, window, side // window, window)
    zones = tiles.transpose(0, 2, 1, 3).reshape(-1, window**2)
    return np.where(zones[:, :, None] != zones[:, None], np.float32(_HIDDEN), np.float32(0))[None, :, None]
