"""Statistics of normalizations follow what they read."""

import numpy as np
import pytest

from graphpress.errors import UsageError
from graphpress.ir import constant
from graphpress.passes.recovery.correct_batch_norm import CorrectBatchNorm

RANDOM = np.random.default_rng(0)
TEXT = "(float[n,3,4,4] x) => (float[n,4,4,4] y) { h = Conv(x, w)  y = BatchNormalization(h, g, b, m, v) }"


def normal(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


@pytest.fixture
def damaged(of_text, case):
    """The layer in front of a normalization became half as large; its statistics are those of the data."""
    x, weight = normal(200, 3, 4, 4), normal(4, 3, 1, 1)
    result = np.einsum("nchw,oc->nohw", x, weight[:, :, 0, 0]) * np.float32(1)
    own = {
        "m": result.mean(axis=(0, 2, 3)),
        "v": result.var(axis=(0, 2, 3)),
        "g": np.ones(4, np.float32),
        "b": normal(4),
    }
    models = [of_text(TEXT, w=weight * np.float32(factor), **own) for factor in (1.0, 0.5)]
    return case(*models, [{"x": part} for part in np.split(x, 5)])


@pytest.mark.parametrize("in_transaction", [True, False])
def test_the_normalization_undoes_the_change(damaged, in_transaction):
    assert damaged.error() > 0.05
    assert damaged.repair(CorrectBatchNorm(), **({} if in_transaction else {"transaction": None})).changes == 1
    assert damaged.error() < 1e-3
    before = constant(damaged.start.graph.initializers["m"]), constant(damaged.start.graph.initializers["v"])
    np.testing.assert_allclose(constant(damaged.weight("m")), before[0] * 0.5, atol=1e-5)
    np.testing.assert_allclose(constant(damaged.weight("v")), before[1] * 0.25, rtol=1e-4)


def test_what_training_knew_better_stays(damaged):
    """On other data than the statistics were taken from, they move by what changed and no further."""
    shifted = [{"x": feed["x"] + np.float32(3)} for feed in damaged.feeds]
    damaged.feeds, unseen = shifted, damaged.feeds
    damaged.repair(CorrectBatchNorm())
    np.testing.assert_allclose(
        constant(damaged.weight("v")), constant(damaged.start.graph.initializers["v"]) * 0.25, rtol=1e-3
    )
    assert damaged.error(unseen) > 0


def test_a_pruned_network(pruned):
    damaged = pruned("densenet")
    before = damaged.error()
    outcome = damaged.repair(CorrectBatchNorm())
    assert outcome.changes
    assert damaged.error() < before


def test_folded_normalizations_are_refused(pruned, of_text, case):
    text = "(float[n,4] x) => (float[n,4] y) { y = MatMul(x, w) }"
    plain = of_text(text, w=normal(4, 4))
    outcome = case(plain, plain, [{"x": normal(8, 4)}]).repair(CorrectBatchNorm())
    assert "folded" in outcome.refusals[0].why
    assert "correct_bias" in outcome.refusals[0].fix


def test_what_is_undamaged_stays(damaged, case):
    assert case(damaged.start, damaged.start, damaged.feeds).repair(CorrectBatchNorm()).changes == 0


def test_infinities_are_refused(damaged):
    damaged.feeds[0]["x"][0, 0, 0, 0] = np.nan
    outcome = damaged.repair(CorrectBatchNorm())
    assert outcome.changes == 0
    assert "infinite or undefined" in outcome.refusals[0].why


def test_no_samples_make_no_sense():
    with pytest.raises(UsageError, match="samples"):
        CorrectBatchNorm(samples=0)
