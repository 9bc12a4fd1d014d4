"""Timing kernels: what takes much longer loses, and settings that change results are none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("tvm", reason="needs graphpress[tvm]")

from graphpress.backends.tvm.kernels.kernel import Kernel
from graphpress.backends.tvm.kernels.plane import Plane
from graphpress.backends.tvm.kernels.product import Product, Tile
from graphpress.backends.tvm.kernels.stages import Destination
from graphpress.backends.tvm.kernels.window import TapWindow
from graphpress.backends.tvm.program import Buffer, Constant, Step
from graphpress.backends.tvm.tuning import bench
from graphpress.backends.tvm.tuning.bench import Contestant, fastest


@pytest.fixture
def step(newest) -> Step:
    lanes = newest.lanes
    source, result = Plane(2 * lanes, 4, 14, 2 * lanes), Plane(2 * lanes, 4, 14, 2 * lanes)
    product = Product(source, Destination(result), TapWindow(), Tile(1, 7, 2))
    weights = np.zeros(product.reduction * result.stride, np.float32)
    operands = {"source": Buffer(source), "weights": Constant(weights), "bias": Constant(np.zeros(32, np.float32))}
    return Step(product, {**operands, "result": Buffer(result)})


def test_it_is_one_of_the_variants(step, newest):
    variants = [replace(step.kernel, tile=Tile(1, columns, 2)) for columns in (1, 7)]
    assert fastest(step, variants, newest, threads=2) in variants


def test_what_is_slower_loses_and_the_first_wins_a_tie(step, newest, monkeypatch):
    cost = {1: 300.0, 2: 100.0, 7: 100.5, 14: 99.9}
    monkeypatch.setattr(Contestant, "run", lambda each, operands, first: cost[each.kernel.tile.columns])
    monkeypatch.setattr(bench, "_compiled", lambda variants, isa: [None] * len(variants))

    def winner(*columns: int) -> int:
        variants: list[Kernel] = [replace(step.kernel, tile=Tile(1, each, 2)) for each in columns]
        return fastest(step, variants, newest, threads=1).tile.columns

    assert winner(1, 2) == 2
    assert winner(7, 2, 14, 1) == 7
