"""LSTMs in integers with ranges found at run time: what they compute, in which kernel, and what stays float."""

import numpy as np
import pytest

from graphpress.ir.encoding import read_encoding
from graphpress.passes.quantize.quantize_dynamic import QuantizeDynamic
from graphpress.runtime import Session

HIDDEN = 12


def recurrent(build, weights, directions=1, cell="LSTM", attributes="", computed=""):
    gates = {"LSTM": 4, "GRU": 3}[cell] * HIDDEN
    given = f"hidden_size={HIDDEN}" + ("" if directions == 1 else ', direction="bidirectional"') + attributes
    return build(
        f"(float[T,2,16] x) => (float[T,{directions},2,{HIDDEN}] y) "
        f"{{ {computed} y = {cell} <{given}> (x, {'k' if computed else 'w'}, r, b) }}",
        w=weights.of(directions, gates, 16),
        r=weights.of(directions, gates, HIDDEN, seed=1),
        b=weights.of(directions, 2 * gates, seed=2),
    )


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("directions", [1, 2])
def test_an_lstm_multiplies_integers(build, weights, quantize, tmp_path, directions, per_channel):
    done = quantize(recurrent(build, weights, directions), one=QuantizeDynamic(per_channel=per_channel))
    assert done.outcome.changes == 1
    assert "DynamicQuantizeLSTM" in done.kernels(tmp_path)
    assert "LSTM" not in done.kernels(tmp_path)
    assert done.sqnr()["y"] > 30
    axis = None if not per_channel else int(directions == 1)
    assert read_encoding(done.node("y"), 1).axis == axis


def test_a_layout_that_is_stated_is_the_usual_one(build, weights, quantize, tmp_path):
    done = quantize(recurrent(build, weights, attributes=", layout=0"), one=QuantizeDynamic())
    assert "DynamicQuantizeLSTM" in done.kernels(tmp_path)


def test_one_constant_may_be_both_weights(build, weights, quantize, tmp_path):
    text = f"(float[T,2,{HIDDEN}] x) => (float[T,1,2,{HIDDEN}] y) {{ y = LSTM <hidden_size={HIDDEN}> (x, w, w) }}"
    done = quantize(build(text, w=weights.of(1, 4 * HIDDEN, HIDDEN)), one=QuantizeDynamic())
    assert "DynamicQuantizeLSTM" in done.kernels(tmp_path)
    assert done.sqnr()["y"] > 30


def test_what_was_quantized_is_not_again(build, weights, quantize):
    done = quantize(recurrent(build, weights), one=QuantizeDynamic())
    assert quantize(done.model, one=QuantizeDynamic(), feeds=[]).outcome.changes == 0


def test_weights_are_stored_as_codes(build, weights, quantize):
    tensors = quantize(recurrent(build, weights), one=QuantizeDynamic()).legal().graph.initializers.values()
    assert not [value for value in tensors if value.const_value.dtype.name == "FLOAT" and len(value.shape) == 3]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"cell": "GRU"}, "no kernel of this target finds the range of what GRU reads"),
        ({"computed": "n = ReduceMax <keepdims=0> (x) k = Mul (w, n)"}, "its weight is computed at run time"),
    ],
)
def test_what_stays_float_is_named(build, weights, quantize, options, why):
    done = quantize(recurrent(build, weights, **options), one=QuantizeDynamic())
    assert done.outcome.changes == 0
    assert any(why in reason for reason in done.refused.values())


def test_the_numbers_of_an_unseen_range(build, weights, quantize):
    done = quantize(recurrent(build, weights, 2), one=QuantizeDynamic())
    feed = {"x": 8 * np.random.default_rng(3).normal(size=(5, 2, 16)).astype(np.float32)}
    expected, result = (Session(model).run(feed)["y"] for model in (done.before, done.legal()))
    assert np.linalg.norm(expected - result) < 0.05 * np.linalg.norm(expected)


def test_a_target_without_such_kernels_has_no_recurrent_layers(build, weights, quantize):
    done = quantize(recurrent(build, weights), one=QuantizeDynamic(), dynamic_recurrences=())
    assert done.outcome.changes == 0
    assert list(done.refused.values()) == ["no kernel of this target finds the range of what LSTM reads at run time"]
    text = "(float[4,8] x) => (float[4,8] y) { h = Relu (x) m = MatMul (h, w) y = Tanh (m) }"
    plain = quantize(build(text, w=weights.of(8, 8)), one=QuantizeDynamic(), dynamic_recurrences=())
    assert plain.outcome.changes == 1
    assert not plain.refused
