"""A small trained-looking network, a damaged copy of it, and data: what passes that train begin with."""

import numpy as np
import pytest

from graphpress.analysis.shapes import infer_shapes
from graphpress.cache import ContentCache
from graphpress.data.feeds import FeedSamples
from graphpress.ir import Editor, clone, constant
from graphpress.manager.contract import Context
from graphpress.manager.transaction import Transaction
from graphpress.models import build
from graphpress.runtime import Session
from graphpress.targets import Target


@pytest.fixture(autouse=True)
def one_thread():
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def images():
    return np.random.default_rng(0).normal(size=(64, 3, 8, 8)).astype(np.float32)


@pytest.fixture
def network():
    model = build("resnet", depth=8, stem="cifar", width=4, image=8, classes=4)
    infer_shapes(model)
    return model


@pytest.fixture(scope="session")
def damage():
    """A copy with noise on its convolutions and matrix products."""

    def add_noise(model, share=0.5):
        copy, random = clone(model), np.random.default_rng(5)
        edit = Editor(copy)
        for node in copy.graph:
            weight = constant(node.inputs[1]) if node.op_type in ("Conv", "Gemm", "MatMul") else None
            if weight is not None:
                noise = random.normal(size=weight.shape) * weight.std() * share
                edit.set_constant(node.inputs[1], (weight + noise).astype(np.float32))
        return copy

    return add_noise


@pytest.fixture
def damaged(network, damage):
    return damage(network)


@pytest.fixture
def context_of(network, images, tmp_path):
    """A context around a model; data is arrays by input, with labels where given."""

    def make(original=network, *, data=None, labels=None, cache=False, decisions=None, **rest):
        feed = {"input": images} if data is None else data
        samples = FeedSamples([feed if labels is None else (feed, labels)], Session(original).inputs)
        return Context(
            target=rest.pop("target", None) or Target("test", "a target"),
            original=original,
            calibration=rest.pop("calibration", samples),
            decisions={} if decisions is None else decisions,
            cache=ContentCache(tmp_path / "cache") if cache else None,
            checkpoints=tmp_path / "checkpoints" if cache else None,
            transaction=rest.pop("transaction", Transaction(original)),
            **rest,
        )

    return make


@pytest.fixture
def distance(images):
    """How far the outputs of two models are apart on the images, relative to the first's."""

    def measure(original, model, feed=None):
        expected, actual = (Session(each).run(feed or {"input": images}) for each in (original, model))
        name = next(iter(expected))
        return float(np.square(expected[name] - actual[name]).mean() / expected[name].var())

    return measure


@pytest.fixture
def weights():
    """All constants as bytes."""
    return lambda model: {name: constant(value).tobytes() for name, value in model.graph.initializers.items()}
