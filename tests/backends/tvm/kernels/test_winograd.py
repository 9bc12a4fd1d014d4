"""Convolutions in the basis of Winograd: every rest of a tile, any halo, channels that fill no vector, batches."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from kernel_checks.harness import Images, to_codes
from kernel_checks.reference import convolution

from graphpress.backends.tvm.kernels.packing import packed_weights
from graphpress.backends.tvm.kernels.plane import Halo, Plane, whole_vectors
from graphpress.backends.tvm.kernels.product import Product, Tile
from graphpress.backends.tvm.kernels.stages import Add, Clip, Destination
from graphpress.backends.tvm.kernels.window import TapWindow
from graphpress.backends.tvm.kernels.winograd import BASES, TileGrid, WinogradInput, WinogradOutput, transformed_weights

IMAGES = 2
SIZES = [(8, 12), (7, 9), (5, 6), (3, 2)]
"""Rows and pixels of the result: whole tiles, and rests of each length."""


class Convolution(NamedTuple):
    """The kernels of one, and the window that they compute."""

    change: WinogradInput
    product: Product
    back: WinogradOutput
    window: TapWindow


def convolution_of(isa, m: int, size: tuple[int, int], pads: tuple[int, int], codes: bool = False) -> Convolution:
    """37 channels into 70, and another activation added."""
    window = TapWindow((3, 3), pads=pads)
    height, width = (length + 2 - 2 * pad for length, pad in zip(size, pads, strict=True))
    halo = Halo(pads[0] + 1, pads[1], pads[0], pads[1] + 1)
    source = Plane(37, height, width, whole_vectors(37, isa.lanes), halo)
    result = Plane(70, *size, whole_vectors(70, isa.lanes), Halo(0, 1, 2, 0))
    stages = (Add(replace(result, halo=Halo(1, 0, 0, 0))), Clip(0.0, 6.0))
    if codes:
        result = replace(result, dtype=isa.dot.activations)
    grid = TileGrid(m, *size)
    change, back = WinogradInput(source, grid, pads), WinogradOutput(Destination(result), grid, stages)
    tile = Tile(1, 3, 2, row_groups=grid.side**2, prefetch=True)
    product = Product(change.result(isa), Destination(back.source(isa)), TapWindow(), tile, rowwise=True)
    return Convolution(change, product, back, window)


@pytest.mark.parametrize("m", BASES)
def test_gives_the_convolution(isa, compiled, m):
    cases = [convolution_of(isa, m, size, pads) for size in SIZES for pads in ((1, 1), (0, 1))]
    cases.append(convolution_of(isa, m, SIZES[1], (1, 1), codes=True))
    library = compiled([kernel for case in cases for kernel in case[:3]])
    rng = np.random.default_rng(m)
    for change, product, back, window in cases:
        source, result = change.source, back.store.plane
        data = Images.random(source, IMAGES, rng)
        other = Images.random(back.stages[0].plane, IMAGES, rng)
        kernel = rng.standard_normal((70, 37, 3, 3)).astype(np.float32) / 10
        bias = np.pad(rng.standard_normal(70), (0, result.stride - 70)).astype(np.float32)
        weights = np.concatenate([packed_weights(product, part, isa) for part in transformed_weights(kernel, m)])

        room = Images.filled(change.result(isa), IMAGES, 0).memory
        tiles = library.run(change, IMAGES, room, source=data.memory)
        room = Images.filled(back.source(isa), IMAGES, 0).memory
        zeros = np.zeros(result.stride, np.float32)
        products = library.run(product, IMAGES, room, source=tiles, weights=weights, bias=zeros)
        room = Images.filled(result, IMAGES, 5).memory
        made = Images(result, library.run(back, IMAGES, room, source=products, bias=bias, residual=other.memory))

        sums = convolution(data.numbers(), kernel, 1, window, result) + bias[:70] + other.numbers()
        expected = np.clip(sums, 0, 6)
        if result.dtype != "float32":
            assert np.mean(made.values != to_codes(expected, 0, result.dtype)) < 1e-3  # what lies at a tie may differ
        else:
            np.testing.assert_allclose(made.values, expected, rtol=0, atol=1e-5 * np.abs(sums).max())
        outside = np.ones(made.memory.shape, bool)
        Images(result, outside).values[:] = False
        outside[..., result.channels :] = False
        assert np.all(made.memory[outside] == 5), "the halo was written"
