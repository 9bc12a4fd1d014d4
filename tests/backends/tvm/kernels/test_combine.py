"""Stages of two operands, and planes that are parts of others."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_checks.harness import Images, to_codes

from graphpress.backends.tvm.codegen.operators import BINARY_FUNCTIONS
from graphpress.backends.tvm.kernels.combine import Choose, Combine, Gate, OtherVector
from graphpress.backends.tvm.kernels.map import Map
from graphpress.backends.tvm.kernels.plane import Halo, Plane, whole_vectors
from graphpress.backends.tvm.kernels.stages import ApplyFunction, Destination, Multiply, Round

IMAGES, CHANNELS, SIZE = 2, 37, (3, 5)
EXPECTED = {
    "div": np.divide,
    "max": np.maximum,
    "min": np.minimum,
    "mul": np.multiply,
    "prelu": lambda x, y: np.where(x < 0, x * y, x),
    "equal": np.equal,
    "greater": np.greater,
    "greater_or_equal": np.greater_equal,
    "less": np.less,
    "less_or_equal": np.less_equal,
    "xor": np.not_equal,
}
SPREADS = {"whole": (CHANNELS, *SIZE), "channels": (CHANNELS, 1, 1), "map": (1, *SIZE), "row": (CHANNELS, 1, SIZE[1])}


def plane(isa, extents=(CHANNELS, *SIZE), dtype="float32") -> Plane:
    """Channels, rows and pixels, with a halo."""
    channels, height, width = extents
    return Plane(channels, height, width, whole_vectors(channels, isa.lanes), Halo(1, 0, 0, 1), dtype)


def test_every_function_has_an_expectation():
    assert EXPECTED.keys() == BINARY_FUNCTIONS.keys()


@pytest.mark.parametrize("shared", [False, True])
def test_another_operand_is_spread_over_what_it_lacks(shared, isa, compiled):
    source, result = plane(isa), plane(isa)
    others = {name: plane(isa, extents) for name, extents in SPREADS.items()}
    kernels = {
        (spread, name): Map(
            source,
            Destination(result),
            CHANNELS,
            (Combine(name, other.shared() if shared else other, "other", swapped=name == "div"),),
        )
        for spread, other in others.items()
        for name in (EXPECTED if spread == "channels" else ["mul"])
    }
    rng, library = np.random.default_rng(0), compiled(list(kernels.values()))
    data = Images.random(source, IMAGES, rng)
    for (spread, name), kernel in kernels.items():
        other = Images.random(others[spread], 1 if shared else IMAGES, rng)
        memory = library.run(
            kernel, IMAGES, Images.filled(result, IMAGES, 0).memory, source=data.memory, other=other.memory
        )
        pair = (other.values, data.values) if name == "div" else (data.values, other.values)
        np.testing.assert_allclose(Images(result, memory).values, EXPECTED[name](*pair), rtol=1e-6)


def test_codes_are_multiplied_in_their_units(isa, compiled):
    dtype = isa.dot.activations
    source, other, result = plane(isa, dtype=dtype), plane(isa, (CHANNELS, 1, 1), dtype), plane(isa, dtype=dtype)
    stages = (Combine("mul", other, "other", zero_point=3), Multiply(0.02))
    kernel = Map(source, Destination(result, 9), CHANNELS, stages, 5)
    rng = np.random.default_rng(0)
    data, factors = Images.random(source, IMAGES, rng), Images.random(other, IMAGES, rng)
    memory = compiled([kernel]).run(
        kernel, IMAGES, Images.filled(result, IMAGES, 0).memory, source=data.memory, other=factors.memory
    )
    expected = to_codes((data.numbers(5) * factors.numbers(3)).astype(np.float32) * np.float32(0.02), 9, dtype)
    np.testing.assert_array_equal(Images(result, memory).values, expected)


def test_a_gate_is_what_stages_make_of_the_vector_itself(isa, compiled):
    source, result = plane(isa), plane(isa)
    gate = (ApplyFunction("sigmoid"), Multiply(255.0), Round(0, 255))
    kernel = Map(source, Destination(result), CHANNELS, (Gate(gate),))
    data = Images.random(source, IMAGES, np.random.default_rng(0))
    memory = compiled([kernel]).run(kernel, IMAGES, Images.filled(result, IMAGES, 0).memory, source=data.memory)
    numbers = data.numbers()
    expected = numbers * np.rint(255 / (1 + np.exp(-numbers)))
    np.testing.assert_allclose(Images(result, memory).values, expected, rtol=1e-6)


def test_a_condition_chooses(isa, compiled):
    condition, taken, other, result = (plane(isa, dtype="uint8"), plane(isa), plane(isa, (1, 1, 1)), plane(isa))
    stage = Choose(0, (OtherVector(taken, "yes"), OtherVector(other.shared(), "no")))
    kernel = Map(condition, Destination(result), CHANNELS, (stage,))
    rng = np.random.default_rng(0)
    data, values, rest = Images.random(condition, IMAGES, rng), Images.random(taken, IMAGES, rng), np.array([7.0])
    data.values[:] &= 1
    memory = compiled([kernel]).run(
        kernel,
        IMAGES,
        Images.filled(result, IMAGES, 0).memory,
        source=data.memory,
        yes=values.memory,
        no=np.full(other.size, rest),
    )
    np.testing.assert_array_equal(Images(result, memory).values, np.where(data.values, values.values, 7))


def test_parts_of_planes_are_written_in_place(isa, compiled):
    container = Plane(80, 6, 8, 80, Halo(1, 1, 1, 1))
    source = Plane(30, 3, 4, whole_vectors(30, isa.lanes))
    inside = container.part(32, 30).area(1, 2, 3, 4)
    phase = container.part(0, 30).area(1, 0, 3, 4, (2, 2))
    kernels = [Map(source, Destination(part), 30) for part in (inside, phase)]
    library, data = compiled(kernels), Images.random(source, IMAGES, np.random.default_rng(0))
    memory = Images.filled(container, IMAGES, 7).memory
    for kernel in kernels:
        memory = library.run(kernel, IMAGES, memory, source=data.memory)
    values = Images(container, memory).values
    np.testing.assert_array_equal(values[:, 1:4, 2:6, 32:62], data.values)
    np.testing.assert_array_equal(values[:, 1::2, ::2, :30], data.values)
    values[:, 1:4, 2:6, 32:62] = values[:, 1::2, ::2, :30] = 7
    assert np.all(memory == 7)
