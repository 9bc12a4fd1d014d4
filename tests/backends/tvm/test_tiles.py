"""Tiles that the rules choose: their sums stay in registers."""

from __future__ import annotations

import re

import pytest

from graphpress.backends.tvm.codegen.isa import ISAS
from graphpress.backends.tvm.codegen.objects import assembly
from graphpress.backends.tvm.kernels.kernel import function
from graphpress.backends.tvm.kernels.plane import Halo, Plane
from graphpress.backends.tvm.kernels.product import Product, Tile
from graphpress.backends.tvm.kernels.stages import Destination, Scale
from graphpress.backends.tvm.kernels.window import TapWindow
from graphpress.backends.tvm.tiles import rule_tile

CASES = {
    "wide into narrow": (Plane(576, 14, 14, 576, dtype="uint8"), Plane(96, 14, 14, 96, dtype="uint8"), TapWindow()),
    "an image of three channels": (
        Plane(3, 64, 64, 4, Halo(1, 1, 1, 1), "uint8"),
        Plane(32, 32, 32, 32, dtype="uint8"),
        TapWindow((3, 3), (2, 2), pads=(1, 1)),
    ),
}
SPILL = re.compile(r"zmm\d+, -?\d*\(%r[sb]p\)|\(%r[sb]p\), %zmm")


@pytest.mark.parametrize("name", CASES)
def test_loops_of_integer_products_spill_nothing(name):
    source, result, window = CASES[name]
    isa = ISAS["avx512-vnni"]
    product = rule_tile(Product(source, Destination(result), window, Tile(1, 1, 1), stages=(Scale(),)), isa, 1)
    blocks = re.split(r"\n(?=\.LBB)", assembly([function(product, isa)], isa))
    loops = [block for block in blocks if block.count("vpdpbusd") >= product.tile.rows * product.tile.columns]
    assert loops
    # A little may be put aside around a loop; what is spilled in one is spilled for most of its products.
    assert all(len(SPILL.findall(block)) < block.count("vpdpbusd") / 4 for block in loops)


def test_short_reductions_are_stored_by_fours():
    """Of few products, writing is the larger part: codes of four neighboring vectors take one store."""
    source, result = (Plane(channels, 56, 56, channels, dtype="uint8") for channels in (16, 96))
    product = Product(source, Destination(result), TapWindow(), Tile(1, 1, 1), stages=(Scale(),))
    assert rule_tile(product, ISAS["avx512-vnni"], 1).tile.vectors == 4


@pytest.mark.parametrize(("threads", "images", "blocks"), [(1, 1, 3), (2, 1, 4), (3, 1, 3), (2, 2, 3)])
def test_blocks_of_a_matrix_are_shared_out_evenly(threads, images, blocks):
    """Its rows are pixels of one line, so that threads can only share blocks of channels."""
    product = Product(Plane(192, 1, 196, 192), Destination(Plane(192, 1, 196, 192)), TapWindow(), Tile(1, 1, 1))
    isa = ISAS["avx512-vnni"]
    assert rule_tile(product, isa, threads, images).blocks(isa) == blocks


@pytest.mark.parametrize(("threads", "parts"), [(1, 1), (2, 2), (4, 4), (8, 7), (16, 14)])
def test_threads_keep_rows_of_their_own(threads, parts):
    """Where the weights stay in the second-level cache; as many as divide the rows of tiles."""
    source = Plane(128, 28, 28, 128, Halo(1, 1, 1, 1))
    product = Product(source, Destination(Plane(128, 28, 28, 128)), TapWindow((3, 3), pads=(1, 1)), Tile(1, 1, 1))
    chosen = rule_tile(product, ISAS["avx512-vnni"], threads)
    assert (chosen.row_tiles, chosen.tile.row_groups) == (28, parts)


@pytest.mark.parametrize(("pixels", "pairs"), [(28, True), (1, False)])
def test_pixels_are_multiplied_by_pairs_where_that_takes_fewer_instructions(pixels, pairs):
    isa = ISAS["neon-i8mm"]
    source, result = (Plane(channels, pixels, pixels, channels, dtype="uint8") for channels in (128, 96))
    product = Product(source, Destination(result), TapWindow(), Tile(1, 1, 1), stages=(Scale(),))
    assert rule_tile(product, isa, 1).tile.pairs == pairs


def test_loops_over_pairs_spill_nothing():
    isa = ISAS["neon-i8mm"]
    source, result = (Plane(channels, 28, 28, channels, dtype="uint8") for channels in (128, 96))
    product = Product(source, Destination(result), TapWindow(), Tile(1, 1, 1), stages=(Scale(),))
    blocks = re.split(r"\n(?=\.L)", assembly([function(rule_tile(product, isa, 1), isa)], isa))
    hottest = max(blocks, key=lambda block: block.count("usmmla"))
    assert "[sp" not in hottest
    assert hottest.count("usmmla") > 0.5 * len(re.findall(r"^\t[a-z]", hottest, re.MULTILINE))
