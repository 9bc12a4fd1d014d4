"""Which tile a product gets without measuring.

A wide tile hides the latency of its additions and reuses each vector of weights; what does not divide the pixels of a
row leaves a narrow rest, which costs as many weights for fewer results. So of the tiles that fit the registers, the one
with the fewest loads per product wins, rests counted, and the time in which a thread waits for another that has a task
more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.codegen.narrowing import TOGETHER
from graphpress.backends.tvm.codegen.vectors import FLOAT
from graphpress.backends.tvm.kernels.pieces import chunks, pieces
from graphpress.backends.tvm.kernels.product import Product, Tile

FIRST_LEVEL, SECOND_LEVEL = 32 << 10, 768 << 10
"""Bytes that stay in a core's caches, with room for what else lies there."""

ROWS, COLUMN_ROWS = 3, 12
"""Rows of a tile at most; of one in a plane whose rows have one pixel."""
APART = 1.5
"""Instructions more for a vector of codes that is stored alone."""


def rule_tile(product: Product, isa: Isa, threads: int, images: int = 1) -> Product:
    """The product with the tile that the rules choose, for so many images."""
    tile = min(_candidates(product, isa), key=lambda tile: _cost(product, tile, isa, threads, images))
    return _ordered(product, tile, isa, threads)


def ranked_tiles(product: Product, isa: Isa, threads: int) -> Iterator[Product]:
    """The product with each tile that fits, in the order in which the rules would choose."""
    for tile in sorted(_candidates(product, isa), key=lambda tile: _cost(product, tile, isa, threads, 1)):
        yield _ordered(product, tile, isa, threads)


def _ordered(product: Product, tile: Tile, isa: Isa, threads: int) -> Product:
    """A tile with the order of tasks that goes with it."""
    order = _order(product, tile, isa, threads)
    return replace(product, tile=replace(tile, row_groups=order, prefetch=_streams(product, tile, isa, order)))


def _candidates(product: Product, isa: Isa) -> Iterator[Tile]:
    plane, vectors = product.store.plane, product.vectors(isa)
    kinds = (False, True) if product.integer and isa.matrix_dot is not None else (False,)
    # Integer products take their activations from registers: where sums fill almost all, some are spilled.
    most = isa.registers * 3 // 4 if product.integer else isa.registers
    for wide in range(1, min(vectors, 12 if plane.width == 1 else 4) + 1):
        for rows in range(1, _most_rows(product) + 1):
            for columns in range(1, min(plane.width, 28) + 1):
                for pairs in kinds:
                    tiled = replace(product, tile=Tile(rows, columns, wide, pairs=pairs))
                    if rows <= plane.height and tiled.fits(isa) and tiled.sum_registers(isa) <= most:
                        unroll = max(2, tiled.dot(isa).together) if product.integer else 4
                        yield replace(tiled.tile, unroll=unroll)


def _most_rows(product: Product) -> int:
    """Rows of a tile: a column of single pixels has nothing else to fill the registers with."""
    if product.rowwise:
        return 1
    return COLUMN_ROWS if product.store.plane.width == 1 else ROWS


def _cost(product: Product, tile: Tile, isa: Isa, threads: int, images: int) -> float:
    """Instructions while the busiest of the threads computes its tasks, times the threads."""
    tasks = images * replace(product, tile=tile).tasks(isa)
    return _loads(product, tile, product.vectors(isa)) * pieces(tasks, threads) * threads / tasks


def _loads(product: Product, tile: Tile, vectors: int) -> float:
    """Instructions of all tiles and rests: products, loads of weights and broadcasts of each step, and what writes."""
    product = replace(product, tile=tile)
    total, steps, together = 0.0, product.reduction / product.step, product.accumulated_together
    for channels in chunks(vectors, tile.vectors):
        # Codes of four neighboring vectors are stored at once, others one by one.
        apart = channels.size % TOGETHER if product.store.plane.dtype != FLOAT else 0
        for rows in chunks(product.store.plane.height, tile.rows):
            for columns in chunks(product.store.plane.width, tile.columns):
                pixels = rows.size * columns.size
                accumulators = pieces(pixels, together)
                # Fewer sums than an addition takes cycles, twice over, leave the units waiting. What two pixels share
                # takes two products, and two loads of weights and of activations.
                products = accumulators * channels.size * together
                cost = max(products, 8) + 0.5 * together * (channels.size + accumulators)
                total += channels.pieces * rows.pieces * columns.pieces * (cost * steps + APART * apart * pixels)
    return total


def _order(product: Product, tile: Tile, isa: Isa, threads: int) -> int:
    """How many parts rows are cut into."""
    rows = -(-product.store.plane.height // tile.rows)
    if product.rowwise:
        return rows
    bytes_ = 1 if product.integer else 4
    weights = product.vectors(isa) * product.groups * isa.lanes * product.reduction * bytes_
    if weights < FIRST_LEVEL * 8:
        return rows
    if weights >= SECOND_LEVEL:
        return 1
    # As many parts as threads have rows of their own; where these do not divide, as many as come near.
    return max(parts for parts in range(1, min(threads, rows) + 1) if rows % parts == 0)


def _streams(product: Product, tile: Tile, isa: Isa, order: int) -> bool:
    rows = -(-product.store.plane.height // tile.rows)
    if product.rowwise:
        return True
    return order < max(rows, 2) and product.blocks(isa) > 1
