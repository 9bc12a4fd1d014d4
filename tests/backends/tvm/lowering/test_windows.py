"""Halos around what convolutions read."""

from __future__ import annotations

import numpy as np
from kernel_checks.graphs import graph

from graphpress.backends.tvm.kernels.plane import Halo
from graphpress.backends.tvm.lowering.windows import halos


def test_values_of_one_shape_have_halos_alike_or_none():
    text = """(float[1,4,6,6] x) => (float[1,4,6,6] z) {
        a = Conv<pads=[1,1,0,0]>(x, two) b = Conv<pads=[1,0,2,3]>(a, four) c = Conv(b, wide) d = Conv(b, point)
        z = Conv<pads=[2,2,2,2]>(d, five)
    }"""
    sizes = {"two": 2, "four": 4, "wide": 6, "point": 1, "five": 5}
    model = graph(text, **{name: np.ones((4, 4, size, size), np.float32) for name, size in sizes.items()})
    around = {value.name: halo for value, halo in halos(model.graph).items()}
    assert around == {"x": Halo(2, 2, 2, 3), "a": Halo(2, 2, 2, 3), "b": Halo(), "d": Halo(2, 2, 2, 3)}
