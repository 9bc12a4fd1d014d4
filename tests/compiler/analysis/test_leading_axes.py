"""What the first axes of inputs count."""

import numpy as np
import onnx.parser
import pytest
from onnx import numpy_helper

from graphpress.analysis.leading_axes import fed_inputs, steps_in_front
from graphpress.data.inputs import has_common_batch, has_open_batch
from graphpress.ir import from_proto

WEIGHTS = {"w": np.ones((1, 4, 8), np.float32), "r": np.ones((1, 4, 4), np.float32)}
STEP = "{ n = Add(s, i) o = Identity(n) }"


def model(text):
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 17]> g {text}')
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in WEIGHTS.items())
    return from_proto(proto)


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("(float[N, 8] x) => (float[N, 8] y) { y = Relu(x) }", set()),
        ("(float[T, N, 8] x) => (float[T, 1, N, 4] y) { y = RNN <hidden_size = 4> (x, w, r) }", {"x"}),
        ("(float[?, ?, 8] x) => (float[?, ?, ?, 4] y) { y = RNN <hidden_size = 4> (x, w, r) }", {"x"}),
        ("(float[T, N, 8] x) => (float[T, ?, N, 4] y) { a = Relu(x) y = RNN <hidden_size = 4> (a, w, r) }", {"x"}),
        ("(float[N, T, 8] x) => (float[N, T, 1, 4] y) { y = RNN <hidden_size = 4, layout = 1> (x, w, r) }", set()),
        (
            "(float[N, T, 8] x) => (float[T, 1, N, 4] y) "
            "{ a = Transpose <perm = [1, 0, 2]> (x) y = RNN <hidden_size = 4> (a, w, r) }",
            set(),
        ),
        ("(float[T, N, 8] x, int32[N] len) => (float[N, 8] y) { y = ReduceSum <keepdims = 0> (x) }", {"x", "len"}),
        ("(float[T, N, 8] x) => (float[N, 8] y) { y = ReduceMean <axes = [0], keepdims = 0> (x) }", {"x"}),
        ("(float[S, batch_size, 8] x) => (float[S, batch_size, 8] y) { y = Relu(x) }", {"x"}),
        ("(float[3, T] x) => (float[3, T] y) { y = Relu(x) }", set()),
        (
            "(float[8] s, float[T, 8] x) => (float[8] y, float[T, 8] z) { y, z = Scan <num_scan_inputs = 1, body = "
            "step (float[8] s, float[8] i) => (float[8] n, float[8] o) " + STEP + "> (s, x) }",
            {"x"},
        ),
    ],
)
def test_which_inputs_begin_with_something_else_than_samples(text, steps):
    network = model(text)
    assert steps_in_front(network) == steps
    inputs = fed_inputs(network)
    assert {spec.name for spec in inputs if not spec.batched} == steps
    assert not (has_common_batch(inputs) and steps)
    assert has_open_batch(inputs) == (not steps and network.graph.inputs[0].shape[0] != 3)
