"""Factors train: gradients reach each of them, and what was trained is the same chain, nothing multiplied together."""

import numpy as np
import pytest
from text_models import model_of

from graphpress.data.feeds import FeedSamples
from graphpress.ir import clone, constant
from graphpress.ir.factors import is_factor
from graphpress.manager.contract import Context
from graphpress.manager.evaluator import NoEvaluator
from graphpress.manager.manager import Manager
from graphpress.manager.recipe import from_name
from graphpress.manager.transaction import Transaction
from graphpress.passes.lowrank.lowrank import LowRank
from graphpress.passes.training.distill import Distill
from graphpress.passes.training.finetune import Finetune
from graphpress.runtime import Session
from graphpress.targets import load_target

pytest.importorskip("torch")

NET = """(float[N,8,8,8] x) => (float[N,4] y) {
    a = Conv<pads=[1,1,1,1]>(x, plain, b0)  c = Relu(a)
    d = Conv<pads=[0,2,1,1], strides=[2,1], dilations=[1,2], group=2>(c, grouped)  e = Relu(d)
    f = GlobalAveragePool(e)  g = Flatten(f)
    h = Gemm<transB=1, alpha=0.5>(g, product, b1)  i = Relu(h)
    y = MatMul(i, last) }"""
LAYERS = 4


@pytest.fixture
def net():
    random = np.random.default_rng(0)

    def normal(*shape):
        return (random.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)

    return model_of(
        NET, plain=normal(12, 8, 3, 3), b0=normal(12), grouped=normal(16, 6, 3, 3), product=normal(12, 16),
        b1=normal(12), last=4 * normal(4, 12).T.copy(),
    )  # fmt: skip


@pytest.fixture
def context(net):
    random = np.random.default_rng(1)
    images, classes = random.normal(size=(64, 8, 8, 8)).astype(np.float32), random.integers(0, 4, 64)
    samples = FeedSamples([({"x": images}, classes)], Session(net).inputs)
    return Context(load_target("cpu"), net, calibration=samples, transaction=Transaction(net))


def factors(model):
    """The weights of all factors, in the order of the graph."""
    return [constant(node.inputs[1]) for node in model.graph if is_factor(node)]


SHORT = {"steps": 20, "holdout": 0.0}


@pytest.mark.parametrize("recovery", [Distill(**SHORT), Distill(**SHORT, mode="blockwise"), Finetune(**SHORT)])
@pytest.mark.parametrize("method", ["svd", "tucker", "spatial", "cp", "monarch"])
def test_every_factor_learns_and_stays_one(net, context, method, recovery):
    """Depthwise ones, those with a kernel along one axis, and those of groups as well."""
    decomposed = clone(net)
    assert LowRank(method=method, rank=0.1, multiple=1).run(decomposed, context).changes == LAYERS
    trained = clone(decomposed)
    assert recovery.run(trained, context).changes
    before, after = factors(decomposed), factors(trained)
    assert len(before) >= 2 * LAYERS
    assert [weight.shape for weight in after] == [weight.shape for weight in before]
    assert all((new != old).any() for new, old in zip(after, before, strict=True))
    delivered = Manager(context, NoEvaluator(), (), "none").run(trained, from_name("fuse")).checkpoints[-1].model
    assert [weight.shape for weight in factors(delivered)] == [weight.shape for weight in before]


@pytest.mark.parametrize("method", ["svd", "tucker", "spatial", "cp", "monarch"])
def test_distillation_repairs_what_the_ranks_took(net, context, method):
    model = clone(net)
    LowRank(method=method, rank=0.1, multiple=1).run(model, context)
    (feed,) = context.calibration
    wanted = Session(net).run(feed)["y"]

    def distance():
        return np.square(Session(model).run(feed)["y"] - wanted).sum()

    before = distance()
    Distill(steps=40, holdout=0.0, augment="none", loss="mse").run(model, context)
    assert distance() < before
