"""Costs at kept counts are those of the model that is really cut."""

from __future__ import annotations

import numpy as np
import pytest

from graphpress.analysis.cost import model_cost
from graphpress.analysis.shapes import concrete_shapes, infer_shapes
from graphpress.coupling import couple, remove, unshare
from graphpress.coupling.cost import GroupCosts
from graphpress.ir import clone
from graphpress.models import build

FAMILIES = {
    "resnet": {"depth": 50},
    "mobilenet_v2": {},
    "mobilenet_v3": {},
    "densenet": {},
    "shufflenet": {},
    "unet": {},
    "vgg": {},
    "nas": {},
    "detector": {},
    "vit": {},
    "bert": {},
    "gpt": {},
}


def prepared(family, **sizes):
    model = build(family, batch=1, **sizes)
    unshare(model)
    infer_shapes(model)
    coupling = couple(model)
    return model, coupling, GroupCosts(model, coupling)


def masks(coupling, counts, rng):
    by_group = {}
    for group in coupling.groups:
        mask = np.zeros(group.size, bool)
        mask[rng.permutation(group.size)[: counts[group.name]]] = True
        by_group[group.name] = mask
    return by_group


@pytest.mark.parametrize("family", FAMILIES)
def test_equal_to_the_cost_of_the_cut_model(family):
    model, coupling, costs = prepared(family, **FAMILIES[family])
    rng = np.random.default_rng(0)
    counts = {name: int(rng.integers(1, size + 1)) for name, size in costs.sizes.items()}
    totals = costs.keep_all(counts)
    cut = clone(model)
    shapes = concrete_shapes(model)
    remove(cut, couple(cut), masks(coupling, counts, rng))
    cost = model_cost(cut, concrete_shapes(cut, {value.name: shapes[value.name] for value in cut.graph.inputs}))
    assert totals.macs == cost.macs
    assert totals.parameters == cost.parameters
    assert totals.units == sum(counts.values())


def test_whole_it_costs_what_the_model_costs():
    model, _, costs = prepared("resnet")
    cost = model_cost(model)
    assert (costs.full.macs, costs.full.parameters) == (cost.macs, cost.parameters)
    assert costs.full.traffic == sum(layer.traffic for layer in cost.layers)
    assert costs.full.seconds == 0.0
    assert costs.totals == costs.full


def test_one_by_one_is_as_all_at_once_and_a_trial_changes_nothing():
    _, _, costs = prepared("resnet")
    _, _, others = prepared("resnet")
    counts = {name: size // 2 for name, size in costs.sizes.items()}
    for name, count in counts.items():
        before = costs.totals
        tried = costs.trial(name, count)
        assert costs.totals == before
        assert costs.counts[name] == costs.sizes[name]
        assert costs.keep(name, count) == tried
    assert costs.totals == others.keep_all(counts)
    assert costs.keep_all(costs.sizes) == costs.full


def test_only_the_nodes_of_a_group_are_evaluated_anew():
    calls = []
    model, coupling, _ = prepared("resnet")
    costs = GroupCosts(model, coupling, price=lambda call, layer: calls.append(call.node) or 1.0)
    nodes = len(calls)
    calls.clear()
    costs.keep("layer2.0.part1.conv.weight[0]", 3)
    assert 0 < len(calls) <= 6 < nodes
    assert costs.totals.seconds == pytest.approx(nodes)


def test_a_price_sees_the_shapes_of_the_moment():
    model, coupling, costs = prepared("vgg")
    priced = costs.priced(lambda call, layer: float(layer.macs))
    assert priced.full.seconds == costs.full.macs
    name = coupling.groups[0].name
    assert priced.keep(name, 1).seconds == priced.totals.macs < costs.full.macs
    assert model_cost(model).macs == costs.full.macs


def test_units_of_several_positions_are_known():
    _, coupling, costs = prepared("vit")
    widths = {group.name: costs.positions(group.name) for group in coupling.groups}
    assert min(widths.values()) == 1
    assert all(costs.groups_in(place.value) for group in coupling.groups for place in group.features)
    assert costs.groups_in(None) == []
