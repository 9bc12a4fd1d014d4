"""Weights in the order in which tiles read them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.kernels.pieces import chunks
from graphpress.backends.tvm.kernels.plane import whole_vectors
from graphpress.backends.tvm.kernels.product import Product


def merged_groups(groups: int, channels: int, lanes: int) -> int:
    """As many groups as leave whole vectors of output channels to each: neighbors are joined, zeros between them."""
    for merged in range(groups, 0, -1):
        if groups % merged == 0 and channels % merged == 0 and channels // merged % lanes == 0:
            return merged
    return 1


def packed_weights(product: Product, kernel: np.ndarray, isa: Isa) -> np.ndarray:
    """The weights in the order in which tiles read them.

    Args:
        product: the kernel that reads them.
        kernel: ``[outputs, inputs of a group, tap rows, tap columns]``, int8 or float32; groups as in ``product``.
            Where rows have weights of their own (``Product.rowwise``), those of one.
        isa: the instruction set.

    Returns:
        Flat: per group and block of vectors ``[taps, steps, channels of the block, elements of a step]``.
    """
    outputs = whole_vectors(product.store.plane.channels, isa.lanes)
    taps = kernel.transpose(0, 2, 3, 1)
    inner = product.source.stride if product.joined else product.channels
    filled = np.zeros((outputs, *taps.shape[1:3], inner), kernel.dtype)
    filled[: kernel.shape[0], ..., : kernel.shape[1]] = taps
    rows = np.zeros((outputs, math.prod(product.outer_taps), product.run), kernel.dtype)
    flat = filled.reshape(outputs, rows.shape[1], -1)
    rows[..., : flat.shape[-1]] = flat
    return np.concatenate([_packed_block(product, rows[first:last]) for first, last in _blocks(product, isa)])


def per_channel(product: Product, numbers: np.ndarray, isa: Isa) -> np.ndarray:
    """Numbers of the output channels, zeros behind them."""
    filled = np.zeros(whole_vectors(product.store.plane.channels, isa.lanes), numbers.dtype)
    filled[: numbers.size] = numbers
    return filled


def _packed_block(product: Product, rows: np.ndarray) -> np.ndarray:
    channels, taps, run = rows.shape
    steps = rows.reshape(channels, taps, run // product.step, product.step)
    return np.ascontiguousarray(steps.transpose(1, 2, 0, 3)).ravel()


def _blocks(product: Product, isa: Isa) -> Iterator[tuple[int, int]]:
    """First and last output channel of each block."""
    per_group = product.vectors(isa)
    for group in range(product.groups):
        for chunk in chunks(per_group, product.tile.vectors):
            for piece in range(chunk.pieces):
                first = group * per_group + chunk.start + piece * chunk.size
                yield first * isa.lanes, (first + chunk.size) * isa.lanes
