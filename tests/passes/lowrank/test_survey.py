"""Spectra say what a rank keeps in the norm of the data, and what the chain costs that the pass would write."""

import numpy as np
import pytest
from text_models import model_of

from graphpress.analysis.cost import model_cost
from graphpress.ir import clone
from graphpress.manager.contract import Context
from graphpress.passes.lowrank.lowrank import LowRank
from graphpress.targets import load_target

RANDOM = np.random.default_rng(0)
NET = """(float[N,8,6,6] x) => (float[N,10] y) {
    a = Conv<pads=[1,1,1,1]>(x, w0, b0)  b = Relu(a)  c = Conv<group=16>(b, w1)
    d = GlobalAveragePool(c)  e = Flatten(d)  y = Gemm<transB=1>(e, w2, b2) }"""


def normal(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


@pytest.fixture(scope="module")
def net():
    return model_of(
        NET, w0=normal(16, 8, 3, 3), b0=normal(16), w1=normal(16, 1, 3, 3), w2=normal(10, 16), b2=normal(10)
    )


@pytest.fixture(scope="module")
def feeds():
    mix = RANDOM.normal(size=(8, 2))
    return [{"x": np.einsum("nkhw,ck->nchw", RANDOM.normal(size=(32, 2, 6, 6)), mix).astype(np.float32)}]


def context(model, feeds=None, target="cpu"):
    return Context(load_target(target), model, calibration=feeds)


def test_energies_are_those_that_the_pass_keeps_at_these_ranks(net, feeds):
    """Of the first layer, whose input is what it was: what is not kept is the error."""
    spectrum = LowRank().survey(net, context(net, feeds)).layers[0]
    assert (spectrum.name, spectrum.op, spectrum.full_rank) == ("Conv_a", "Conv", 16)
    kept = [figures.energy for figures in spectrum.shares]
    assert 0 < kept[0] < kept[1] < kept[2] <= 1
    for figures in spectrum.shares[:2]:
        changed = clone(net)
        share = figures.rank / spectrum.full_rank
        outcome = LowRank(method="svd", rank=share, multiple=1, layers="Conv_a").run(changed, context(net, feeds))
        (told,) = outcome.decomposed
        assert told.energy == pytest.approx(figures.energy, abs=1e-2)
        assert (told.macs, told.parameters) == (figures.macs, figures.parameters)
        assert model_cost(changed).macs == model_cost(net).macs - spectrum.macs + figures.macs


def test_least_ranks_keep_so_much_and_those_below_do_not(net, feeds):
    for spectrum in LowRank().survey(net, context(net, feeds)).layers:
        for wanted, figures in zip((0.9, 0.99, 0.999), spectrum.energies, strict=True):
            assert figures.energy >= wanted - 1e-9
        ranks = [figures.rank for figures in spectrum.energies]
        assert ranks == sorted(ranks)


def test_break_even_is_the_last_rank_that_saves(net):
    for spectrum in LowRank().survey(net, context(net)).layers:
        at = {
            rank: LowRank(method="svd", rank=rank / spectrum.full_rank, multiple=1, layers=spectrum.name)
            for rank in (spectrum.break_even, spectrum.break_even + 1)
        }
        done = [lowrank.run(clone(net), context(net)).changes for lowrank in at.values()]
        assert done == [1, 0]


def test_data_that_varies_in_few_directions_needs_fewer_ranks_than_weights_say(net, feeds):
    survey, blind = (LowRank().survey(net, context(net, seen)) for seen in (feeds, None))
    assert (survey.norm, survey.samples, blind.norm, blind.samples) == ("data", 32, "weights", 0)
    assert survey.layers[0].energies[1].rank <= blind.layers[0].energies[1].rank


def test_other_layers_say_why_they_stay_whole_and_nothing_changes(net):
    before = [node.name for node in net.graph]
    survey = LowRank().survey(net, context(net))
    assert [node.name for node in net.graph] == before
    assert [refusal.where for refusal in survey.whole] == ["Conv_c"]
    assert "depthwise" in survey.whole[0].why


def test_times_are_those_of_the_target(net):
    spectrum = LowRank().survey(net, context(net, target="jetson"), timed=True).layers[0]
    assert spectrum.seconds > 0
    assert all(figures.seconds > 0 for figures in spectrum.shares)
    assert LowRank().survey(net, context(net)).layers[0].seconds is None


def test_undefined_activations_are_a_reason(net):
    survey = LowRank().survey(net, context(net, [{"x": np.full((4, 8, 6, 6), np.nan, np.float32)}]))
    assert survey.layers == []
    assert any("undefined" in refusal.why for refusal in survey.whole)
