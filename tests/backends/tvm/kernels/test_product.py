"""Convolutions and matrix products of all shapes, on all tiles, against numpy."""

from __future__ import annotations

import pytest
from kernel_checks.random_cases import random_case

from graphpress.backends.tvm.codegen.isa import ISAS
from graphpress.backends.tvm.codegen.objects import write_object
from graphpress.backends.tvm.kernels.kernel import function
from graphpress.backends.tvm.kernels.packing import merged_groups
from graphpress.backends.tvm.kernels.plane import Plane
from graphpress.backends.tvm.kernels.product import Product, Tile
from graphpress.backends.tvm.kernels.stages import Destination
from graphpress.backends.tvm.kernels.window import TapWindow


def test_random_products_equal_numpy(isa, compiled):
    cases = [random_case("product", isa, seed) for seed in range(10)]
    kernels = compiled([kernel for case in cases for kernel in case.kernels])
    for case in cases:
        case.check(kernels)


@pytest.mark.parametrize("name", ["neon", "neon-dotprod", "neon-i8mm"])
def test_kernels_of_other_processors_compile(name, tmp_path):
    isa = ISAS[name]
    (kernel,) = random_case("product", isa, 0).kernels
    write_object([function(kernel, isa)], isa, tmp_path / "kernels.o")
    assert (tmp_path / "kernels.o").read_bytes()[18] == 183  # EM_AARCH64


def test_groups_merge_into_whole_vectors():
    assert merged_groups(32, 128, 16) == 8
    assert merged_groups(2, 32, 16) == 2
    assert merged_groups(3, 24, 16) == 1


def tiled(name: str, *sides: int, codes: bool = False) -> bool:
    """Whether a tile fits an instruction set."""
    plane = Plane(64, 16, 16, 64, dtype=ISAS[name].dot.activations if codes else "float32")
    return Product(plane, Destination(plane), TapWindow(), Tile(*sides)).fits(ISAS[name])


def test_a_tile_fits_the_registers_that_there_are():
    assert tiled("avx512", 1, 14, 2)
    assert not tiled("avx512", 1, 7, 4)
    assert not tiled("avx2", 1, 14, 2)
    assert tiled("neon", 2, 3, 4)
    assert not tiled("neon", 2, 3, 4, codes=True)  # two sums for each channel
    assert tiled("neon-dotprod", 1, 5, 4, codes=True)
    assert not tiled("neon-dotprod", 2, 3, 4, codes=True)  # activations of four steps for each pixel
