"""Every criterion finds the units that do next to nothing."""

import numpy as np
import pytest

from graphpress.passes.prune.criteria import Reduction, load_criterion
from graphpress.passes.prune.criteria._reduction import ROLES

USELESS = [2, 5]


def faint(weights):
    """What writes these channels of the first convolution and what reads them is a thousandth."""
    weights["w1"][USELESS] *= 1e-3
    weights["b1"][USELESS] *= 1e-3
    weights["w2"][:, USELESS] *= 1e-3


def dead(weights):
    """Relu lets nothing of these channels through."""
    weights["b1"][USELESS] = -100


def ignored(weights):
    """They fire, but what reads them hardly looks."""
    weights["w2"][:, USELESS] *= 1e-3


def lowest(scores):
    return sorted(np.argsort(scores, kind="stable")[: len(USELESS)].tolist())


@pytest.mark.parametrize("name", ["activation", "fisher", "fpgm", "l1", "l2", "obs", "taylor", "wanda"])
@pytest.mark.parametrize("seed", [0, 1])
def test_faint_channels(name, seed, case):
    assert lowest(case(faint, seed).score(load_criterion(name)())["w1[0]"]) == USELESS


@pytest.mark.parametrize("roles", [("writes",), ("reads",), ("writes", "reads"), ROLES])
@pytest.mark.parametrize("name", ["l1", "l2", "fpgm", "taylor"])
def test_faint_channels_by_any_role(name, roles, case):
    assert lowest(case(faint).score(load_criterion(name)(Reduction(roles=roles)))["w1[0]"]) == USELESS


@pytest.mark.parametrize("name", ["activation", "fisher", "obs", "taylor", "wanda"])
def test_dead_channels_need_data_to_be_seen(name, case):
    assert lowest(case(dead).score(load_criterion(name)())["w1[0]"]) == USELESS
    assert lowest(case(dead).score(load_criterion("l2")())["w1[0]"]) != USELESS


@pytest.mark.parametrize("name", ["fisher", "l1", "l2", "obs", "taylor", "wanda"])
def test_ignored_channels_are_seen_by_what_reads_them(name, case):
    assert lowest(case(ignored).score(load_criterion(name)())["w1[0]"]) == USELESS


@pytest.mark.parametrize(
    "options", [{"statistic": "rms"}, {"statistic": "apoz"}], ids=lambda options: options["statistic"]
)
def test_dead_channels_by_every_statistic(options, case):
    assert lowest(case(dead).score(load_criterion("activation")(**options))["w1[0]"]) == USELESS


@pytest.mark.parametrize("options", [{"joint": True}, {"targets": "sampled"}], ids=lambda options: next(iter(options)))
def test_faint_channels_by_every_fisher(options, case):
    assert lowest(case(faint).score(load_criterion("fisher")(**options))["w1[0]"]) == USELESS


def test_faint_scales_of_normalizations(normalized):
    gamma = np.linspace(1, 2, 8) * np.where(np.arange(8) % 2, -1, 1)
    gamma[USELESS] *= 1e-3
    scores = normalized(gamma).score(load_criterion("batch_norm")())
    np.testing.assert_allclose(scores.pop("w1[0]"), np.abs(gamma), rtol=1e-6)
    assert not scores  # the second group has no normalization: nothing is said of it


def test_two_equal_channels_can_stand_in_for_each_other(case):
    def twins(weights):
        for name in ("w1", "b1"):
            weights[name][4] = weights[name][1]

    scores = case(twins).score(load_criterion("obs")(damping=1e-6))["w1[0]"]
    assert lowest(scores) == [1, 4]


@pytest.mark.parametrize("name", ["activation", "fisher", "obs", "taylor", "wanda"])
def test_a_layer_that_is_dead_altogether(name, case):
    scores = case(lambda weights: weights["b1"].__setitem__(slice(None), -100)).score(load_criterion(name)())["w1[0]"]
    np.testing.assert_allclose(scores, 0, atol=1e-30)


def test_obs_without_damping(case):
    assert lowest(case(dead).score(load_criterion("obs")(damping=0.0))["w1[0]"]) == USELESS
