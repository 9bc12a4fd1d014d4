"""Integer products become the instructions that an instruction set is named after, and no others."""

from __future__ import annotations

import pytest

from graphpress.backends.tvm.codegen.isa import ISAS
from graphpress.backends.tvm.codegen.objects import assembly
from graphpress.backends.tvm.kernels.kernel import function
from graphpress.backends.tvm.kernels.plane import Plane
from graphpress.backends.tvm.kernels.product import Product, Tile
from graphpress.backends.tvm.kernels.stages import Destination, Scale
from graphpress.backends.tvm.kernels.window import TapWindow

INSTRUCTIONS = {
    "avx2": "vpmaddubsw",
    "avx-vnni": "vpdpbusd",
    "avx512": "vpmaddubsw",
    "avx512-vnni": "vpdpbusd",
    "neon": "sadalp",
    "neon-dotprod": "sdot",
    "neon-i8mm": "sudot",
}


@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_products_of_codes(name):
    isa = ISAS[name]
    source = Plane(64, 1, 16, 64, dtype=isa.dot.activations)
    result = Plane(64, 1, 16, 64, dtype=isa.dot.activations)
    product = Product(source, Destination(result), TapWindow(), Tile(1, 2, 2), stages=(Scale(),))
    words = set(assembly([function(product, isa)], isa).replace("\t", " ").split())
    assert {word for word in words if word in INSTRUCTIONS.values()} == {INSTRUCTIONS[name]}


def test_pairs_of_pixels_are_multiplied_as_matrices():
    isa = ISAS["neon-i8mm"]
    plane = Plane(64, 1, 16, 64, dtype=isa.dot.activations)
    product = Product(plane, Destination(plane), TapWindow(), Tile(1, 4, 2, unroll=2, pairs=True), stages=(Scale(),))
    text = assembly([function(product, isa)], isa)
    # of each step two pairs of pixels by four pairs of channels; eight channels have two loads of weights
    assert text.count("usmmla") == 2 * 2 * 4
    assert not {"usdot", "sudot", "sdot"} & set(text.split())


@pytest.mark.parametrize("name", [name for name, isa in ISAS.items() if isa.matrix_dot is None])
def test_there_are_no_pairs_without_such_an_instruction(name):
    plane = Plane(64, 1, 16, 64, dtype=ISAS[name].dot.activations)
    assert not Product(plane, Destination(plane), TapWindow(), Tile(1, 2, 1, pairs=True)).fits(ISAS[name])


def test_every_instruction_set_is_tested():
    assert INSTRUCTIONS.keys() == ISAS.keys()


@pytest.mark.parametrize("name", [name for name, isa in ISAS.items() if isa.dot.together > 1])
def test_activations_are_picked_out_of_a_vector_where_that_costs_nothing(name):
    isa = ISAS[name]
    plane = Plane(64, 1, 16, 64, dtype=isa.dot.activations)
    text = assembly(
        [function(Product(plane, Destination(plane), TapWindow(), Tile(1, 4, 2), stages=(Scale(),)), isa)], isa
    )
    assert text.count(".4b[") >= 4 * 4 * 2
    assert "ld1r" not in text
