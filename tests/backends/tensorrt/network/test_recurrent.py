"""Recurrent layers lowered to loops compute what ONNX Runtime computes: directions, states, lengths, activations."""

from __future__ import annotations

import numpy as np
import pytest

from graphpress.errors import ModelError
from graphpress.ir import from_proto

RANDOM = np.random.default_rng(0)
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
TIME, BATCH, SIZE, WIDTH = 5, 3, 4, 6
LENGTHS = np.array([5, 2, 3], np.int32)


def normal(*shape, dtype=np.float32):
    return (RANDOM.standard_normal(shape) * 0.5).astype(dtype)


def weights(op_type, directions, bias=True, dtype=np.float32):
    rows = GATES[op_type] * WIDTH
    found = {"w": normal(directions, rows, SIZE, dtype=dtype), "r": normal(directions, rows, WIDTH, dtype=dtype)}
    return found | ({"b": normal(directions, 2 * rows, dtype=dtype)} if bias else {})


def states(op_type, directions):
    names = ["h", "c"] if op_type == "LSTM" else ["h"]
    return {name: normal(directions, BATCH, WIDTH) for name in names}


def outputs(op_type):
    return 3 if op_type == "LSTM" else 2


def directions_of(direction):
    return 2 if direction == "bidirectional" else 1


@pytest.mark.parametrize("op_type", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("start", [False, True])
def test_directions_lengths_and_states(bench, one_node, op_type, direction, lengths, start):
    count, x = directions_of(direction), normal(TIME, BATCH, SIZE)
    constants = weights(op_type, count) | ({"lengths": LENGTHS} if lengths else {})
    constants |= states(op_type, count) if start else {}
    order = ["x", "w", "r", "b", "lengths" if lengths else "", *(states(op_type, count) if start else [])]
    attributes = {"direction": direction, "hidden_size": WIDTH}
    model = one_node(op_type, {"x": x}, constants, order=order, outputs=outputs(op_type), **attributes)
    network = bench.agrees(model, {"x": x})
    kinds = [network.get_layer(index).type.name for index in range(network.num_layers)]
    assert kinds.count("TRIP_LIMIT") == 1, "both directions share one loop"


@pytest.mark.parametrize("op_type", GATES)
@pytest.mark.parametrize("open_axes", [[0], [1], [0, 1]])
def test_open_time_and_batch(bench, one_node, op_type, open_axes):
    x, constants = normal(TIME, BATCH, SIZE), weights(op_type, 2)
    attributes = {"direction": "bidirectional", "hidden_size": WIDTH}
    model = one_node(op_type, {"x": x}, constants, outputs=outputs(op_type), open_axes=open_axes, **attributes)
    network = bench.agrees(model, {"x": x})
    assert bench.build(network) > 0


@pytest.mark.parametrize("op_type", GATES)
def test_lengths_of_the_run(bench, one_node, op_type):
    x, constants = normal(TIME, BATCH, SIZE), weights(op_type, 2)
    attributes = {"direction": "bidirectional", "hidden_size": WIDTH}
    order = ["x", "w", "r", "b", "lengths"]
    feed = {"x": x, "lengths": LENGTHS}
    model = one_node(op_type, feed, constants, order=order, outputs=outputs(op_type), **attributes)
    network = bench.agrees(model, feed)
    assert bench.build(network) > 0


@pytest.mark.parametrize("op_type", GATES)
def test_without_bias(bench, one_node, op_type):
    x = normal(TIME, BATCH, SIZE)
    bench.agrees(one_node(op_type, {"x": x}, weights(op_type, 1, bias=False), hidden_size=WIDTH), {"x": x})


@pytest.mark.parametrize("op_type", GATES)
def test_weights_of_the_run(bench, one_node, op_type):
    feed = {"x": normal(TIME, BATCH, SIZE), **weights(op_type, 2)}
    bench.agrees(one_node(op_type, feed, hidden_size=WIDTH, direction="bidirectional"), feed)


@pytest.mark.parametrize("linear", [0, 1])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_where_the_reset_gate_acts(bench, one_node, linear, direction):
    x, constants = normal(TIME, BATCH, SIZE), weights("GRU", directions_of(direction))
    attributes = {"hidden_size": WIDTH, "linear_before_reset": linear, "direction": direction}
    bench.agrees(one_node("GRU", {"x": x}, constants, outputs=2, **attributes), {"x": x})


@pytest.mark.parametrize("coupled", [0, 1])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_peepholes_and_coupled_gates(bench, one_node, coupled, direction):
    count = directions_of(direction)
    x, constants = normal(TIME, BATCH, SIZE), weights("LSTM", count) | {"p": normal(count, 3 * WIDTH)}
    attributes = {"hidden_size": WIDTH, "input_forget": coupled, "direction": direction}
    order = ["x", "w", "r", "b", "", "", "", "p"]
    bench.agrees(one_node("LSTM", {"x": x}, constants, order=order, outputs=3, **attributes), {"x": x})


ACTIVATIONS = {
    "Affine": (1, 1), "Elu": (1, 0), "HardSigmoid": (1, 1), "LeakyRelu": (1, 0), "Relu": (0, 0), "ScaledTanh": (1, 1),
    "Sigmoid": (0, 0), "Softplus": (0, 0), "Softsign": (0, 0), "Tanh": (0, 0), "ThresholdedRelu": (1, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(bench, one_node, name):
    alphas, betas = ACTIVATIONS[name]
    attributes = {"hidden_size": WIDTH, "activations": [name]}
    attributes |= ({"activation_alpha": [0.3]} if alphas else {}) | ({"activation_beta": [0.4]} if betas else {})
    x = normal(TIME, BATCH, SIZE)
    bench.agrees(one_node("RNN", {"x": x}, weights("RNN", 1), outputs=2, **attributes), {"x": x})


def test_activations_of_each_direction(bench, one_node):
    attributes = {
        "hidden_size": WIDTH,
        "direction": "bidirectional",
        "activations": ["Sigmoid", "Tanh", "Tanh", "HardSigmoid", "Relu", "Softsign"],
        "activation_alpha": [0.3],
        "activation_beta": [0.4],
    }
    x = normal(TIME, BATCH, SIZE)
    bench.agrees(one_node("LSTM", {"x": x}, weights("LSTM", 2), outputs=3, **attributes), {"x": x})


@pytest.mark.parametrize("op_type", GATES)
def test_sums_are_clipped(bench, one_node, op_type):
    x = normal(TIME, BATCH, SIZE) * 3
    bench.agrees(one_node(op_type, {"x": x}, weights(op_type, 1), hidden_size=WIDTH, clip=0.4), {"x": x})


@pytest.mark.parametrize("op_type", GATES)
def test_the_batch_may_come_first(bench, one_node, op_type):
    x = normal(TIME, BATCH, SIZE)
    constants, start = weights(op_type, 2), states(op_type, 2)
    order = ["x", "w", "r", "b", "", *start]
    attributes = {"hidden_size": WIDTH, "direction": "bidirectional", "outputs": outputs(op_type), "order": order}
    swapped = {name: one.swapaxes(0, 1).copy() for name, one in start.items()}
    plain = bench.lower(from_proto(one_node(op_type, {"x": x}, constants | start, **attributes), where="test"))
    first = one_node(op_type, {"x": x.swapaxes(0, 1).copy()}, constants | swapped, layout=1, **attributes)
    batch_first = bench.lower(from_proto(first, where="test"))
    whole, *last = bench.run(plain, {"x": x})
    other, *ends = bench.run(batch_first, {"x": x.swapaxes(0, 1).copy()})
    np.testing.assert_allclose(other, whole.transpose(2, 0, 1, 3), rtol=1e-6)
    for one, end in zip(last, ends, strict=True):
        np.testing.assert_allclose(end, one.swapaxes(0, 1), rtol=1e-6)


@pytest.mark.parametrize("op_type", GATES)
def test_halves_stay_halves(bench, one_node, op_type):
    x = normal(TIME, BATCH, SIZE, dtype=np.float16)
    model = one_node(
        op_type, {"x": x}, weights(op_type, 2, dtype=np.float16), hidden_size=WIDTH, direction="bidirectional"
    )
    network = bench.lower(from_proto(model, where="test"))
    names = {network.get_layer(index).type.name for index in range(network.num_layers)}
    assert "CAST" not in names
    assert network.get_output(0).dtype.name == "HALF"
    assert bench.build(network) > 0


def test_an_unknown_direction_is_refused(bench, one_node):
    model = one_node("GRU", {"x": normal(TIME, BATCH, SIZE)}, weights("GRU", 1), hidden_size=WIDTH, direction="up")
    with pytest.raises(ModelError, match="unknown direction 'up'"):
        bench.lower(from_proto(model, where="test"))


def test_an_unknown_activation_is_refused(bench, one_node):
    model = one_node(
        "RNN", {"x": normal(TIME, BATCH, SIZE)}, weights("RNN", 1), hidden_size=WIDTH, activations=["Sine"]
    )
    with pytest.raises(ModelError, match="unknown activation 'Sine'") as raised:
        bench.lower(from_proto(model, where="test"))
    assert "the node" in raised.value.where
