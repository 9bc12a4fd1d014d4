"""Prices of nodes: what is measured, how often, and what lies between. No assertion rests on how long anything took."""

from __future__ import annotations

import pytest

from graphpress.allocation import LatencyBench
from graphpress.analysis.cost import model_cost, roofline_seconds
from graphpress.analysis.shapes import infer_shapes
from graphpress.cache import ContentCache
from graphpress.coupling import couple, unshare
from graphpress.coupling.cost import GroupCosts
from graphpress.ir import int_attribute, static_shape
from graphpress.models import build
from graphpress.passes.prune._limits import Limits
from graphpress.passes.prune._prices import measured_price, modelled_price
from graphpress.targets import load_target


class Counted(LatencyBench):
    """A bench that says what it was asked: time is the number of multiply-accumulates."""

    def __init__(self, **fields):
        super().__init__(**fields)
        self.nodes = []

    def _measure(self, model):
        self.nodes += model.graph
        return 1e-9 * model_cost(model).macs


def costs_of(family, **sizes):
    model = build(family, batch=1, **sizes)
    unshare(model)
    infer_shapes(model)
    return GroupCosts(model, couple(model))


def test_equal_layers_are_measured_once_and_kept(tmp_path):
    costs = costs_of("resnet", stem="cifar", depth=20, image=16)
    bench = Counted(cache=ContentCache(tmp_path))
    measured_price(costs, Limits(), 1e-3, bench)
    measured = [
        (node.op_type, *(static_shape(value) for value in (*node.inputs, *node.outputs))) for node in bench.nodes
    ]
    assert len(set(measured)) == len(measured) == len(bench.known)
    again = Counted(cache=ContentCache(tmp_path))
    measured_price(costs, Limits(), 1e-3, again)
    assert again.nodes == []
    assert again.known == bench.known
    assert costs.totals == costs.full


def test_the_whole_takes_what_was_measured_and_halves_lie_between():
    costs = costs_of("resnet", depth=18, width=32)
    priced = costs.priced(measured_price(costs, Limits(), 0.5, Counted()))
    assert priced.full.seconds == pytest.approx(0.5)
    half = priced.keep_all({name: size // 2 for name, size in costs.sizes.items()})
    assert 0 < half.seconds < 0.5


def test_between_the_points_time_follows_the_work():
    """Bilinear interpolation is exact for time in proportion to inputs times outputs."""
    costs = costs_of("resnet", depth=18, width=32)
    share = 1e-9 * costs.full.macs
    priced = costs.priced(measured_price(costs, Limits(), share / 2, Counted()))
    for part in (0.9, 0.6, 0.35, 0.2):
        totals = priced.keep_all({name: max(1, round(part * size)) for name, size in costs.sizes.items()})
        assert totals.seconds == pytest.approx(share / 2 * totals.macs / costs.full.macs, rel=0.02)


def test_only_counts_that_are_allowed_are_measured():
    costs = costs_of("resnet", depth=18, width=32)
    bench = Counted()
    measured_price(costs, Limits(multiple=16), 1.0, bench)
    channels = {static_shape(node.outputs[0])[1] for node in bench.nodes if node.op_type == "Conv"}
    assert all(count % 16 == 0 for count in channels)


def test_depthwise_layers_shrink_on_both_sides_together():
    costs = costs_of("mobilenet_v2")
    bench = Counted()
    measured_price(costs, Limits(), 1.0, bench)
    grouped = [node for node in bench.nodes if int_attribute(node, "group", 1) > 1]
    assert grouped
    assert all(static_shape(node.inputs[0])[1] == static_shape(node.outputs[0])[1] for node in grouped)


def test_a_model_of_the_target_prices_nodes_by_its_roofline():
    target = load_target("raspberrypi4")
    costs = costs_of("resnet")
    priced = costs.priced(modelled_price(target))
    assert priced.full.seconds == pytest.approx(roofline_seconds(model_cost(build("resnet", batch=1)), target))
    assert modelled_price(load_target("arm64")) is None
