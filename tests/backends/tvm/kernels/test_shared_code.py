"""Kernels that differ in numbers alone have one code, which computes what the code of each would."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from kernel_checks.harness import Kernels
from kernel_checks.random_cases import random_case

from graphpress.backends.tvm.codegen.isa import ISAS
from graphpress.backends.tvm.kernels.kernel import symbol
from graphpress.backends.tvm.kernels.plane import Plane
from graphpress.backends.tvm.kernels.product import Product, Tile
from graphpress.backends.tvm.kernels.shared_code import shared
from graphpress.backends.tvm.kernels.stages import AddCodes, Destination, Round, Scale
from graphpress.backends.tvm.kernels.window import TapWindow

CODES = Plane(16, 4, 4, 16, dtype="uint8")
PRODUCT = Product(
    CODES,
    Destination(CODES, zero_point=7),
    TapWindow(),
    Tile(1, 1, 1),
    stages=(Scale(), Round(-7, 248), AddCodes(CODES, (0.5, 0.25), -3.0, (7, 0), 5)),
)


class SharedKernels(Kernels):
    """Kernels of which the shared code is run."""

    def run(self, kernel, images, result, **operands):
        code, numbers = shared(kernel)
        return super().run(code, images, result, numbers=numbers, **operands)


@pytest.mark.parametrize("isa", [ISAS["avx2"], ISAS["neon"]], ids=["avx2", "neon"], indirect=True)
@pytest.mark.parametrize("kind", ["product", "depthwise"])
def test_it_computes_the_same(isa, compiled, kind):
    cases = [random_case(kind, isa, seed) for seed in range(4)]
    kernels = compiled([shared(kernel)[0] for case in cases for kernel in case.kernels])
    for case in cases:
        case.check(SharedKernels(isa, kernels.call))


def test_numbers_make_no_other_code():
    others = replace(
        PRODUCT,
        store=Destination(CODES, zero_point=9),
        stages=(Scale(), Round(-9, 246), AddCodes(CODES, (0.1, 0.2), 4.0, (9, 0), 3)),
    )
    (first, numbers), (second, other_numbers) = shared(PRODUCT), shared(others)
    assert first == second
    assert symbol(first, ISAS["avx2"]) == symbol(second, ISAS["avx2"])
    assert numbers.size == other_numbers.size == 8
    assert numbers[0] == 7
    assert numbers[1:3].view(np.float32).tolist() == [-7, 248]


@pytest.mark.parametrize(
    "other",
    [
        replace(PRODUCT, tile=Tile(1, 2, 1)),
        replace(PRODUCT, stages=PRODUCT.stages[:1]),
        replace(PRODUCT, stages=(*PRODUCT.stages[:2], AddCodes(CODES, (0.5, 0.25), -3.0, (7, 1), 5))),
        replace(PRODUCT, store=Destination(CODES)),
    ],
)
def test_what_is_no_number_or_none_at_all_makes_other_code(other):
    assert shared(other)[0] != shared(PRODUCT)[0]


def test_kernels_without_numbers_are_as_they_are():
    floats = replace(CODES, dtype="float32")
    plain = Product(floats, Destination(floats), TapWindow(), Tile(1, 1, 1))
    assert shared(plain)[0] is plain
