"""Random convolutions and matrix products: shapes, groups, types, stages and tiles; every rest of a tile comes up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.kernels.kernel import Kernel
from graphpress.backends.tvm.kernels.packing import merged_groups, packed_weights, per_channel
from graphpress.backends.tvm.kernels.plane import Plane
from graphpress.backends.tvm.kernels.product import Product, Tile
from graphpress.backends.tvm.kernels.stages import Add, Clip, Destination, Scale
from graphpress.backends.tvm.kernels.window import TapWindow
from kernel_checks.cases import (
    IMAGES,
    Scope,
    compare,
    extents_for,
    plane_of,
    random_halo,
    random_weights,
    random_window,
)
from kernel_checks.harness import Images, Kernels
from kernel_checks.reference import convolution

OTHER_RATIO, OTHER_ZERO = 0.5, 3


@dataclass
class ProductCase:
    """A product and its data.

    Args:
        product: the kernel.
        groups: of channels, before neighbors were joined.
        zero_point: of the source.
        rng: of the data.
    """

    product: Product
    groups: int
    zero_point: int
    rng: np.random.Generator

    @property
    def kernels(self) -> Sequence[Kernel]:
        """The product."""
        return [self.product]

    @property
    def other(self) -> Plane | None:
        """What is added."""
        return next((stage.plane for stage in self.product.stages if isinstance(stage, Add)), None)

    def check(self, kernels: Kernels) -> None:
        """Against sums in float64."""
        product, rng, isa = self.product, self.rng, kernels.isa
        source = Images.random(product.source, IMAGES, rng, self.zero_point)
        plane, integer = product.store.plane, product.integer
        shape = (plane.channels, product.source.channels // self.groups, *product.window.taps)
        kernel = random_weights(isa, rng, shape) if integer else rng.standard_normal(shape).astype(np.float32)
        bias = rng.integers(-999, 999, plane.channels) if integer else rng.standard_normal(plane.channels)
        scales = (rng.random(plane.channels) * 2e-3).astype(np.float32)
        numbers = source.numbers(self.zero_point)
        expected = convolution(numbers, kernel, self.groups, product.window, plane) + bias.astype(np.float32)
        zeros = self.zero_point * kernel.astype(np.int64).sum((1, 2, 3)) if integer else 0
        operands = {
            "source": source.memory,
            "weights": packed_weights(product, self._joined(kernel), isa),
            "bias": per_channel(product, (bias - zeros).astype(np.int32 if integer else np.float32), isa),
            "scales": per_channel(product, scales, isa),
        }
        if integer:
            expected = expected.astype(np.float32) * scales
        if self.other is not None:
            other = Images.random(self.other, IMAGES, rng, OTHER_ZERO)
            operands["residual"] = other.memory
            ratio = np.float32(OTHER_RATIO if integer else 1)
            offset = np.float32(-OTHER_ZERO * OTHER_RATIO if integer else 0)
            expected = expected + (other.values.astype(np.float32) * ratio + offset)
        result = Images.filled(plane, IMAGES, 0)
        result.memory = kernels.run(product, IMAGES, result.memory, **operands)
        compare(result, np.clip(expected, 0, 6), product.store.zero_point, terms=math.prod(shape[1:]))

    def _joined(self, kernel: np.ndarray) -> np.ndarray:
        """The weights of groups that were merged, zeros between."""
        joined = self.groups // self.product.groups
        filled = np.zeros((kernel.shape[0], joined, *kernel.shape[1:]), kernel.dtype)
        place = np.arange(kernel.shape[0]) // (kernel.shape[0] // self.groups) % joined
        filled[np.arange(kernel.shape[0]), place] = kernel
        return filled.reshape(kernel.shape[0], -1, *kernel.shape[2:])


def random_product(isa: Isa, rng: np.random.Generator, scope: Scope) -> ProductCase:
    """Any product."""
    integer = bool(rng.integers(2))
    window = random_window(rng, scope)
    size, result_size = extents_for(window, rng, scope)
    groups = int(rng.choice([1, 1, 2, 3]))
    source = _source(isa, rng, scope, (groups, window, size), integer)
    codes = integer and bool(rng.integers(3))
    most = 4 * scope.channels
    outputs = int(rng.integers(1, most)) if groups == 1 else int(rng.integers(1, 5)) * isa.lanes * groups
    result = plane_of(outputs, result_size, isa, random_halo(rng), isa.dot.activations if codes else "float32")
    other = replace(result, halo=random_halo(rng), dtype=isa.dot.activations if integer else "float32")
    ratio, zero = (OTHER_RATIO, OTHER_ZERO) if integer else (1.0, 0)
    add = Add(other, other_ratio=ratio, zero_point=zero)
    stages = [*([Scale()] if integer else []), *([add] if rng.integers(2) else []), Clip(0.0, 6.0)]
    zeros = rng.integers(*isa.code_bounds, 2)
    merged = merged_groups(groups, outputs, isa.lanes) if groups > 1 else 1
    store = Destination(result, int(zeros[0]) if codes else 0)
    product = Product(source, store, window, _tile(isa, rng, scope), merged, tuple(stages))
    orders = [parts for parts in range(1, product.row_tiles + 1) if product.row_tiles % parts == 0]
    tile = replace(product.tile, row_groups=int(rng.choice(orders)), prefetch=bool(rng.integers(2)))
    if integer and isa.matrix_dot is not None:
        tile = replace(tile, pairs=bool(rng.integers(3)))
    return ProductCase(replace(product, tile=tile), groups, int(zeros[1]) if integer else 0, rng)


def _tile(isa: Isa, rng: np.random.Generator, scope: Scope) -> Tile:
    """Any tile; beyond the registers by a little, which is slow and right."""
    rows, vectors, unroll = (int(rng.integers(1, end)) for end in (4, 5, 5))
    columns = min(int(rng.integers(1, scope.columns + 1)), max(1, 2 * isa.registers // (rows * vectors)))
    return Tile(rows, columns, vectors, unroll)


def _source(
    isa: Isa, rng: np.random.Generator, scope: Scope, shape: tuple[int, TapWindow, tuple[int, int]], integer: bool
) -> Plane:
    groups, window, size = shape
    channels = int(rng.integers(1, scope.channels + 1)) * groups
    pads = (*window.pads, *window.pads)
    plane = plane_of(channels, size, isa, random_halo(rng, pads), isa.dot.activations if integer else "float32")
    if integer and channels <= 4 and groups == 1:
        return replace(plane, stride=4)  # as the first layer of a net reads its image
    return plane if integer or rng.integers(2) else replace(plane, stride=channels)
