"""Convolutions of 3 x 3 taps in the basis of Winograd, where that takes less time than the products which it saves.

Costs are counted in products, at the rate at which they are computed where weights wait in a cache. Weights that have
to be fetched limit the rate from below, so that few tiles with many elements are no gain; changing the basis costs
memory traffic for each element of each tile.
"""

from __future__ import annotations

import numpy as np

from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.codegen.vectors import FLOAT
from graphpress.backends.tvm.kernels.packing import packed_weights
from graphpress.backends.tvm.kernels.plane import Plane, whole_vectors
from graphpress.backends.tvm.kernels.product import Product, Tile
from graphpress.backends.tvm.kernels.stages import Destination
from graphpress.backends.tvm.kernels.window import TapWindow
from graphpress.backends.tvm.kernels.winograd import (
    BASES,
    TAPS,
    TileGrid,
    WinogradInput,
    WinogradOutput,
    transformed_weights,
)
from graphpress.backends.tvm.lowering.context import Lowering, StoredValue
from graphpress.backends.tvm.lowering.factors import Factors
from graphpress.backends.tvm.lowering.fusion import ChainEnd
from graphpress.backends.tvm.program import Buffer, Constant
from graphpress.backends.tvm.tiles import rule_tile

FETCH = 24
"""Products that take as long as fetching one weight."""
CHANGE = 15
"""Products that take as long as making one element of a transformed tile, or adding it to the results."""


def winograd_tile(source: Plane, result: Plane, window: TapWindow, isa: Isa) -> int | None:
    """Rows and pixels of a tile; None where the convolution is better computed as it is.

    Args:
        source: what it reads.
        result: what it writes.
        window: the taps.
        isa: the instruction set.
    """
    whole = source.stride % isa.lanes == 0 and source.dtype == FLOAT
    if not whole or window.taps != (TAPS, TAPS) or window.strides != (1, 1) or window.dilations != (1, 1):
        return None
    inputs, outputs = (whole_vectors(plane.channels, isa.lanes) for plane in (source, result))
    weights = source.channels * outputs
    costs: dict[int | None, float] = {None: TAPS**2 * weights * max(result.height * result.width, FETCH)}
    for m in BASES:
        grid = TileGrid(m, result.height, result.width)
        changed = grid.tiles * (inputs + outputs)
        costs[m] = grid.side**2 * (weights * max(grid.tiles, FETCH) + changed * CHANGE)
    return min(costs, key=costs.__getitem__)


def emit_winograd(
    lowering: Lowering, source: StoredValue, target: ChainEnd, window: TapWindow, factors: Factors, m: int
) -> None:
    """The change of basis, products, and the way back."""
    isa, store = lowering.isa, target.store
    grid = TileGrid(m, store.plane.height, store.plane.width)
    change = WinogradInput(source.plane, grid, window.pads)
    back = WinogradOutput(store, grid, tuple(target.epilogue.stages))
    changed, products = change.result(isa), back.source(isa)
    product = Product(changed, Destination(products), TapWindow(), Tile(1, 1, 1), rowwise=True)
    product = lowering.chosen(rule_tile(product, isa, lowering.threads, source.images))
    tiles, sums = (Buffer(plane, images=source.images) for plane in (changed, products))
    weights = [packed_weights(product, kernel, isa) for kernel in transformed_weights(factors.kernel, m)]
    zeros = np.zeros(products.stride, np.float32)
    biases = zeros.copy()
    biases[: factors.bias.size] = factors.bias
    operands = {"weights": Constant(np.concatenate(weights)), "bias": Constant(zeros)}
    lowering.emit(change, {"source": source.memory, "result": tiles}, target.nodes[:1], source.images)
    lowering.emit(product, {"source": tiles, **operands, "result": sums}, target.nodes[:1], source.images)
    lowering.emit(
        back,
        {
            "source": sums,
            "bias": Constant(biases),
            **target.epilogue.operands,
            "result": target.operand.memory,
        },
        target.nodes,
        source.images,
    )
