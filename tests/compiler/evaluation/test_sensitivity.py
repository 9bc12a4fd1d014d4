"""Damage: what a change does to outputs, as numbers that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest
from onnx import numpy_helper

from graphpress.allocation import Goal, Item, knapsack
from graphpress.errors import DataError
from graphpress.evaluation import DamageMeasure, sensitivity
from graphpress.evaluation.sensitivity import LOST
from graphpress.ir import Editor, clone, constant, from_proto
from graphpress.runtime import Session

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 4)).astype(np.float32)
WEIGHTS = {"w": RNG.normal(size=(4, 8)).astype(np.float32), "v": RNG.normal(size=(8, 3)).astype(np.float32)}

CLASSES = "(float[N,4] x) => (float[N,3] logits) { h = MatMul(x, w) r = Relu(h) logits = MatMul(r, v) }"
NUMBERS = """(float[N,4] x) => (float[N,3,1] y, float[N,8,1] g) {
    h = MatMul(x, w) r = Relu(h) z = MatMul(r, v)
    k = Constant<value_ints=[-1]>() y = Unsqueeze(z, k) g = Unsqueeze(h, k)
}"""


def network(text=CLASSES):
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 17]> g {text}')
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in WEIGHTS.items())
    return from_proto(proto)


def changed(model, **weights):
    """The model with other weights."""
    copy = clone(model)
    for name, array in weights.items():
        Editor(copy).set_constant(copy.graph.initializers[name], array.astype(np.float32))
    return copy


def measure(model, feeds=None, **options):
    return DamageMeasure.of(Session(model), [{"x": X[:5]}, {"x": X[5:]}] if feeds is None else feeds, **options)


def test_an_unchanged_model_has_none():
    assert measure(network()).damage(network()) == 0
    assert measure(network(NUMBERS)).damage(network(NUMBERS)) == 0


def test_classes_are_compared_by_their_divergence():
    model, scale = network(), 0.5
    outputs = Session(model)({"x": X})["logits"].astype(np.float64)

    def logs(scores):
        return scores - np.log(np.exp(scores).sum(1, keepdims=True))

    theirs, own = logs(outputs), logs(scale * outputs)
    wanted = (np.exp(theirs) * (theirs - own)).sum(1).mean()
    assert measure(model).damage(changed(model, v=scale * WEIGHTS["v"])) == pytest.approx(wanted, rel=1e-5)


def test_numbers_are_compared_by_their_relative_squared_error():
    """Half of the one output is lost and nothing of the other: (1/4 + 0) / 2."""
    model = network(NUMBERS)
    assert measure(model).damage(changed(model, v=0.5 * WEIGHTS["v"])) == pytest.approx(0.125, rel=1e-6)


def test_more_change_is_more_damage():
    model, damage = network(), []
    direction = RNG.normal(size=WEIGHTS["w"].shape)
    for size in (0.01, 0.1, 1.0):
        damage.append(measure(model).damage(changed(model, w=WEIGHTS["w"] + size * direction)))
    assert 0 < damage[0] < damage[1] < damage[2]


def test_outputs_that_are_no_numbers_are_lost():
    model = network()
    assert measure(model).damage(changed(model, v=np.full((8, 3), np.nan))) == LOST


def test_the_reference_is_run_once_and_the_data_read_once():
    model, asked = network(), []
    session = Session(model)

    def reference(feed):
        asked.append(feed)
        return session(feed)

    damage = DamageMeasure.of(reference, iter([{"x": X}]))
    first = damage.damage(changed(model, v=0.1 * WEIGHTS["v"]))
    assert damage.damage(changed(model, v=0.1 * WEIGHTS["v"])) == first
    assert len(asked) == 1


def test_memory_is_bounded_but_a_single_feed_is_always_taken(monkeypatch):
    monkeypatch.setattr(sensitivity, "MAX_BYTES", 100)
    assert len(measure(network(), [{"x": X}] * 9).feeds) == 1
    monkeypatch.setattr(sensitivity, "MAX_BYTES", 2 * 12 * (4 + 3) * 4 - 1)
    assert len(measure(network(), [{"x": X}] * 9).feeds) == 2


def test_what_is_run_is_what_would_be_delivered():
    """A model is asked through its simulation, the reference is not."""
    model = network()
    simulated = measure(model, simulate=lambda annotated: changed(annotated, v=0.5 * WEIGHTS["v"]))
    assert simulated.damage(model) == measure(model).damage(changed(model, v=0.5 * WEIGHTS["v"])) > 0


def test_data_is_needed_and_has_to_be_numbers():
    with pytest.raises(DataError, match="the selection data is empty"):
        measure(network(), [], data="selection")
    with pytest.raises(DataError, match="outputs on the calibration data are no numbers") as error:
        measure(network(), [{"x": np.full_like(X, np.nan)}], where="bits of layers")
    assert error.value.where == "bits of layers"


# -- what it is for --------------------------------------------------------------------------------------------


def rounded(array, bits):
    """An array on a grid of so many bits."""
    step = np.abs(array).max() / (2 ** (bits - 1) - 1)
    return np.round(array / step) * step


def test_bits_of_layers_are_chosen_exactly():
    """Measured damage, bytes, a goal: the exact knapsack finds what trying every combination finds."""
    model = network()
    damage, bits = measure(model), (8, 6, 4, 3, 2)
    items = {
        name: Item(
            bits,
            [damage.damage(changed(model, **{name: rounded(array, width)})) for width in bits],
            {"bytes": [width * array.size / 8 for width in bits]},
        )
        for name, array in WEIGHTS.items()
    }
    whole = sum(item.costs["bytes"][0] for item in items.values())
    best = knapsack(items, {"bytes": Goal("bytes_kept", 0.6).limit(whole)})
    tried = {
        (first, second): items["w"].damage[bits.index(first)] + items["v"].damage[bits.index(second)]
        for first in bits
        for second in bits
        if first * WEIGHTS["w"].size + second * WEIGHTS["v"].size <= 8 * 0.6 * whole
    }
    assert best.optimal
    assert tuple(best.choices.values()) == min(tried, key=tried.__getitem__)
    everything = changed(model, **{name: rounded(WEIGHTS[name], width) for name, width in best.choices.items()})
    assert damage.damage(everything) < damage.damage(changed(model, **{n: rounded(a, 3) for n, a in WEIGHTS.items()}))
    assert constant(model.graph.initializers["w"]) is not None
