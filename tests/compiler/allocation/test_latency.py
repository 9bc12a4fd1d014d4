"""Tables of measured time: by item and choice, each different model once. No assertion rests on what was measured."""

from __future__ import annotations

import numpy as np
import pytest

from graphpress.allocation import Item, LatencyBench, LatencyTable, knapsack
from graphpress.analysis.cost import model_cost
from graphpress.cache import ContentCache
from graphpress.models.builder import Builder


class MacsBench(LatencyBench):
    """A bench whose seconds are multiply-accumulates, and which keeps what it was asked."""

    def __init__(self, **fields):
        super().__init__(**fields)
        self.models = []

    def _measure(self, model):
        self.models.append(model)
        return float(model_cost(model).macs)


WIDTHS = {"first": 8, "second": 8, "third": 16}


def low_rank(item, rank):
    """A square layer as a product of two, or as it is."""
    width = WIDTHS[item]
    b = Builder("layer")
    x = b.input("x", [1, width])
    for index, shape in enumerate([(width, rank), (rank, width)] if rank < width else [(width, width)]):
        with b.scope(f"part{index}"):
            x = b.linear(x, shape)
    b.output(x, "y", [1, width])
    return b.finish()


CHOICES = {"first": (8, 2, 1), "second": (8, 2, 1), "third": (16, 4)}


def test_equal_models_are_measured_once_and_kept(tmp_path):
    bench = MacsBench(cache=ContentCache(tmp_path))
    table = LatencyTable.measured(CHOICES, low_rank, bench)
    assert len(bench.models) == 5
    np.testing.assert_array_equal(table.costs("first", (8, 2, 1)), [64, 32, 16])
    np.testing.assert_array_equal(table.costs("first", (1, 8)), table.costs("second", (1, 8)))
    again = MacsBench(cache=ContentCache(tmp_path))
    assert LatencyTable.measured(CHOICES, low_rank, again) == table
    assert again.models == []


def test_a_table_is_the_costs_of_a_knapsack():
    table = LatencyTable.measured(CHOICES, low_rank, MacsBench())
    items = {
        name: Item(ranks, [0.0, 1.0, 2.0][: len(ranks)], {"seconds": table.costs(name, ranks)})
        for name, ranks in CHOICES.items()
    }
    best = knapsack(items, {"seconds": 256})
    assert best.choices == {"first": 8, "second": 8, "third": 4}


def test_a_real_bench_measures(tmp_path):
    bench = LatencyBench(cache=ContentCache(tmp_path))
    seconds = bench.seconds("layer", lambda: low_rank("first", 2))
    assert seconds > 0

    def unasked():
        pytest.fail("was measured again")

    assert bench.seconds("layer", unasked) == seconds
    assert LatencyBench(cache=ContentCache(tmp_path)).seconds("layer", unasked) == seconds


def test_what_the_rest_of_the_model_reads_decides_the_time(tmp_path):
    """Times with and without it are not taken for each other; close sizes are one."""
    cache, asked = ContentCache(tmp_path), []

    def build():
        asked.append(1)
        return low_rank("first", 2)

    for between in (0, 1000, 2000, 3 << 20):
        assert LatencyBench(cache=cache, between=between).seconds("layer", build) > 0
    assert len(asked) == 3
