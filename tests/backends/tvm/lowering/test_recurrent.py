"""Recurrent layers in whole graphs against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_checks.graphs import assert_like_onnxruntime, compiled_outputs, graph

from graphpress.backends.tvm.kernels.recurrent import RecurrentLayer
from graphpress.backends.tvm.lowering.lower import lower
from graphpress.backends.tvm.lowering.refusal import UnsupportedError
from graphpress.runtime import CompiledModel

STEPS, SEQUENCES, CHANNELS, UNITS = 5, 2, 7, 19
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    """Random floats, small enough that no gate saturates."""
    return (RNG.standard_normal(shape) / 2).astype(np.float32)


def weights(operator: str, directions: int) -> dict[str, np.ndarray]:
    """Of a layer."""
    rows = GATES[operator] * UNITS
    shapes = {"w": (rows, CHANNELS), "r": (rows, UNITS), "b": (2 * rows,)}
    return {name: normal(directions, *shape) for name, shape in shapes.items()}


LAYERS = f"""(float[{STEPS},{SEQUENCES},{CHANNELS}] x, float[2,{SEQUENCES},{UNITS}] h) => (
    float[{STEPS},2,{SEQUENCES},{UNITS}] a, float[2,{SEQUENCES},{UNITS}] a_h, float[2,{SEQUENCES},{UNITS}] a_c,
    float[{STEPS},1,{SEQUENCES},{UNITS}] g, float[1,{SEQUENCES},{UNITS}] k, float[{STEPS},2,{SEQUENCES},{UNITS}] n) {{
    a, a_h, a_c = LSTM<hidden_size = {UNITS}, direction = "bidirectional">(x, lw, lr, lb, , h, c)
    g = GRU<hidden_size = {UNITS}, linear_before_reset = 1, direction = "reverse">(x, gw, gr, gb)
    unread, k = GRU<hidden_size = {UNITS}>(x, gw, gr, gb, lengths)
    n = RNN<hidden_size = {UNITS}, direction = "bidirectional">(x, nw, nr, , , h)
}}"""


def test_layers(newest, tmp_path):
    named = {"l": weights("LSTM", 2), "g": weights("GRU", 1), "n": weights("RNN", 2)}
    constants = {f"{layer}{name}": array for layer, arrays in named.items() for name, array in arrays.items()}
    constants |= {"c": normal(2, SEQUENCES, UNITS), "lengths": np.full(SEQUENCES, STEPS, np.int32)}
    del constants["nb"]
    model = graph(LAYERS, **constants)
    assert sum(isinstance(step.kernel, RecurrentLayer) for step in lower(model, newest).steps) == 4
    feed = {"x": normal(STEPS, SEQUENCES, CHANNELS), "h": normal(2, SEQUENCES, UNITS)}
    assert_like_onnxruntime(model, feed, newest, tmp_path, threads=2)


@pytest.mark.parametrize("sequences", [3, 9])
def test_sequences_share_weights(sequences, newest, tmp_path):
    text = f"""(float[{STEPS},{sequences},{CHANNELS}] x) => (
        float[{STEPS},1,{sequences},{UNITS}] a, float[{STEPS},2,{sequences},{UNITS}] b,
        float[{STEPS},1,{sequences},{UNITS}] c) {{
        a = LSTM<hidden_size = {UNITS}>(x, lw, lr, lb)
        b = GRU<hidden_size = {UNITS}, direction = "bidirectional">(x, gw, gr, gb)
        c = RNN<hidden_size = {UNITS}>(x, nw, nr, nb)
    }}"""
    named = {"l": weights("LSTM", 1), "g": weights("GRU", 2), "n": weights("RNN", 1)}
    model = graph(
        text, **{f"{layer}{name}": array for layer, arrays in named.items() for name, array in arrays.items()}
    )
    layers = [step.kernel for step in lower(model, newest, threads=2).steps if isinstance(step.kernel, RecurrentLayer)]
    assert [layer.rows for layer in layers] == [-(-sequences // 2), sequences, -(-sequences // 2)]
    assert_like_onnxruntime(model, {"x": normal(STEPS, sequences, CHANNELS)}, newest, tmp_path, threads=2)


def test_sequences_are_samples_of_a_batch(newest, tmp_path):
    text = f"""(float[1,{STEPS},{CHANNELS}] x) => (float[1,1,{UNITS}] z) {{
        t = Transpose<perm = [1, 0, 2]>(x)
        y, e = LSTM<hidden_size = {UNITS}>(t, w, r, b)
        z = Transpose<perm = [1, 0, 2]>(e)
    }}"""
    model, x = graph(text, **weights("LSTM", 1)), normal(3, STEPS, CHANNELS)
    together = compiled_outputs(model, {"x": x}, newest, tmp_path)["z"]
    alone = [CompiledModel(tmp_path, 1).run({"x": row[None]})["z"] for row in x]
    np.testing.assert_array_equal(together, np.concatenate(alone))


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        ('y = LSTM<hidden_size = 19, activations = ["Sigmoid", "Relu", "Tanh"]>(x, w, r)', "activations"),
        ("y = LSTM<hidden_size = 19, clip = 1.0>(x, w, r)", "clipped"),
        ("y = LSTM<hidden_size = 19>(x, w, r, , , , , p)", "read the cell"),
        ("y = LSTM<hidden_size = 19>(x, w, r, , lengths)", "different lengths"),
    ],
)
def test_others_are_refused(layer, why, newest):
    text = f"(float[{STEPS},{SEQUENCES},{CHANNELS}] x) => (float[{STEPS},1,{SEQUENCES},{UNITS}] y) {{ {layer} }}"
    given = weights("LSTM", 1) | {"p": normal(1, 3 * UNITS), "lengths": np.array([STEPS, 2], np.int32)}
    with pytest.raises(UnsupportedError, match=why):
        lower(graph(text, **given), newest)
