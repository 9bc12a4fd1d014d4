"""Prices of nodes: what is measured, how often, and what lies between. No assertion rests on how long anything took."""

from __future__ import annotations

import numpy as np
import pytest

from graphpress.analysis.cost import model_cost, roofline_seconds
from graphpress.analysis.shapes import infer_shapes
from graphpress.coupling import couple, unshare
from graphpress.coupling.cost import GroupCosts
from graphpress.manager.cache import ContentCache
from graphpress.models import build
from graphpress.passes.prune.allocation import Limits
from graphpress.passes.prune.allocation.latency import Bench, measured_price, modelled_price, node_model
from graphpress.runtime import Session
from graphpress.targets import load_target


class Counted(Bench):
    """A bench that says what it was asked: time is the number of multiply-accumulates."""

    def __init__(self, **fields):
        super().__init__(**fields)
        self.runs = []

    def _measure(self, call):
        self.runs.append(call)
        model = node_model(call)
        return 1e-9 * model_cost(model).macs


def costs_of(family, **sizes):
    model = build(family, batch=1, **sizes)
    unshare(model)
    infer_shapes(model)
    return GroupCosts(model, couple(model))


@pytest.mark.parametrize("family", ["resnet", "mobilenet_v2", "shufflenet", "unet", "vit", "gpt"])
def test_a_node_alone_runs_at_any_shape_with_the_same_work(family):
    costs = costs_of(family)
    rng = np.random.default_rng(0)
    for _ in range(2):
        costs.keep_all({name: int(rng.integers(1, size + 1)) for name, size in costs.sizes.items()})
        for call, layer in costs.layers():
            if not layer.macs:
                continue
            model = node_model(call)
            session = Session(model)
            feed = {spec.name: np.zeros(spec.dims, spec.dtype) for spec in session.inputs}
            assert session.run(feed)["y0"].shape == call.output()
            assert model_cost(model).macs == layer.macs


def test_equal_layers_are_measured_once_and_kept(tmp_path):
    costs = costs_of("resnet", stem="cifar", depth=20, image=16)
    bench = Counted(cache=ContentCache(tmp_path))
    measured_price(costs, Limits(), 1e-3, bench)
    words = [repr((call.node.op_type, call.inputs, call.outputs)) for call in bench.runs]
    assert len(set(words)) == len(words) == len(bench.known)
    again = Counted(cache=ContentCache(tmp_path))
    measured_price(costs, Limits(), 1e-3, again)
    assert again.runs == []
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
    channels = {call.output()[1] for call in bench.runs if call.node.op_type == "Conv"}
    assert all(count % 16 == 0 for count in channels)


def test_depthwise_layers_shrink_on_both_sides_together():
    costs = costs_of("mobilenet_v2")
    bench = Counted()
    measured_price(costs, Limits(), 1.0, bench)
    grouped = [call for call in bench.runs if call.integer("group", 1) > 1]
    assert grouped
    assert all(call.input(0)[1] == call.output()[1] for call in grouped)


def test_a_real_bench_measures(tmp_path):
    costs = costs_of("resnet", stem="cifar", depth=8, image=8)
    bench = Bench(cache=ContentCache(tmp_path))
    call = next(call for call, layer in costs.layers() if layer.macs)
    assert bench.seconds(call) > 0
    assert bench.seconds(call) == Bench(cache=ContentCache(tmp_path)).seconds(call)


def test_a_model_of_the_target_prices_nodes_by_its_roofline():
    target = load_target("raspberrypi4")
    costs = costs_of("resnet")
    priced = costs.priced(modelled_price(target))
    assert priced.full.seconds == pytest.approx(roofline_seconds(model_cost(build("resnet", batch=1)), target))
    assert modelled_price(load_target("arm64")) is None
