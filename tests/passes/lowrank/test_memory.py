"""What the pass holds at a time: a layer's factors and few Gram matrices, however deep the model is."""

import tracemalloc

import numpy as np
import pytest
from text_models import model_of

from graphpress.ir import clone
from graphpress.manager.contract import Context
from graphpress.manager.transaction import Transaction
from graphpress.observation import gram
from graphpress.passes.lowrank import _decompose, _observed
from graphpress.passes.lowrank.lowrank import LowRank
from graphpress.passes.recovery.reconstruct import Reconstruct
from graphpress.runtime import Session
from graphpress.targets import load_target

RANDOM = np.random.default_rng(0)
WIDTH = 192
GRAM = 8 * WIDTH**2
WEIGHT = 4 * WIDTH**2


def products(depth, *, side_by_side=False):
    """Square products, one after the other or all of one input."""
    layers = [f"h{i + 1} = MatMul(h{0 if side_by_side else i}, w{i})" for i in range(depth)]
    read = ", ".join(f"h{i + 1}" for i in range(depth)) if side_by_side else f"h{depth}"
    text = f"(float[N,{WIDTH}] h0) => (float[N,?] y) {{ {' '.join(layers)} y = Concat<axis=1>({read}) }}"
    weights = {f"w{i}": RANDOM.normal(size=(WIDTH, WIDTH)).astype(np.float32) / WIDTH**0.5 for i in range(depth)}
    return model_of(text, **weights)


def peak(model, lowrank):
    """Bytes beyond the model's own at the worst moment."""
    feeds = [{"h0": RANDOM.normal(size=(16, WIDTH)).astype(np.float32)}]
    context = Context(target=load_target("cpu"), original=model, calibration=feeds)
    tracemalloc.start()
    try:
        outcome = lowrank.run(model, context)
        assert outcome.changes
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("side_by_side", [False, True])
@pytest.mark.parametrize("fields", [{"rank": 0.25}, {"macs_kept": 0.6}])
def test_a_deep_model_takes_no_more_gram_matrices_than_a_shallow_one(monkeypatch, fields, side_by_side):
    for module in (_observed, _decompose):
        monkeypatch.setattr(module, "ROOM", GRAM)
    shallow, deep = (peak(products(depth, side_by_side=side_by_side), LowRank(**fields)) for depth in (4, 16))
    assert deep - shallow < 12 * 1.5 * WEIGHT + 2 * GRAM


def test_a_wide_layer_takes_the_room_of_few_gram_matrices():
    assert peak(products(1), LowRank(rank=0.25)) < 11 * GRAM


def wide():
    """A head on very many features, and data whose first features vary most."""
    model = model_of("(float[N,512] x) => (float[N,16] y) { y = Gemm(x, w, b) }", w=normal(512, 16), b=normal(16))
    scale = np.geomspace(1, 1e-3, 512).astype(np.float32)
    return model, [{"x": normal(64, 512) * scale + 1}]


@pytest.mark.parametrize("fields", [{"rank": 0.25}, {"macs_kept": 0.3}])
def test_features_without_room_for_a_gram_matrix_are_weighed_by_their_variances(monkeypatch, fields):
    model, feeds = wide()
    outputs = Session(model).run(feeds[0])["y"]
    errors = {}
    for norm, largest in (("data", 8 * 511**2), ("weights", 8 * 512**2)):
        monkeypatch.setattr(gram, "LARGEST_GRAM", largest)
        changed = clone(model)
        context = Context(target=load_target("cpu"), original=model, calibration=feeds)
        outcome = LowRank(method="svd", multiple=1, norm=norm, **fields).run(changed, context)
        assert outcome.changes == 1
        assert any("512 inputs are weighed by their variances" in note for note in outcome.notes) == (norm == "data")
        errors[norm] = np.square(Session(changed).run(feeds[0])["y"] - outputs).sum()
    assert errors["data"] < 0.7 * errors["weights"]


def test_reconstruction_leaves_a_layer_without_room_for_a_gram_matrix(monkeypatch):
    text = "(float[N,8] x) => (float[N,4] y) { h = MatMul(x, v)  r = Relu(h)  y = MatMul(r, w) }"
    first, second = normal(8, 512), normal(512, 4)
    start, changed = model_of(text, v=first, w=second), model_of(text, v=first * 0.9, w=second)
    monkeypatch.setattr(gram, "LARGEST_GRAM", 8 * 511**2)
    feeds = [{"x": normal(64, 8)}]
    context = Context(load_target("cpu"), start, calibration=feeds, transaction=Transaction(start))
    outcome = Reconstruct().run(changed, context)
    assert outcome.changes == 1
    assert any("512 inputs takes too much memory" in refusal.why for refusal in outcome.refusals)


def normal(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)
