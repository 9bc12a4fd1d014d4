"""The largest and smallest of rows against ONNX Runtime; what the data sizes is refused by name."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tvm", reason="needs graphpress[tvm]")

from kernel_checks.graphs import assert_like_onnxruntime, compiled_outputs, graph

from graphpress.backends.tvm.codegen.isa import ISAS
from graphpress.backends.tvm.emulator import find_emulator
from graphpress.backends.tvm.lowering.lower import lower
from graphpress.errors import ModelError

TEXT = """(float[2,5,7] x, float[1,6,4,4] image, float[20] line) => (
    float[2,5,3] a, int64[2,5,3] a_at, float[2,2,7] b, int64[2,2,7] b_at, float[1,3,4,4] c, int64[1,3,4,4] c_at,
    float[20] d, int64[20] d_at) {
    a, a_at = TopK(x, three)
    b, b_at = TopK<axis = 1, largest = 0>(x, two)
    pixels = Relu(image)
    c, c_at = TopK<axis = 1>(pixels, three)
    d, d_at = TopK(line, twenty)
}"""


@pytest.mark.parametrize("name", ["newest", "neon"])
def test_top(name, here, tmp_path):
    """Of equal numbers the first come first; infinite ones are numbers like all others."""
    isa = here[-1] if name == "newest" else ISAS[name]
    if isa not in here and find_emulator(isa) is None:
        pytest.skip("needs qemu-user")
    model = graph(TEXT, three=np.array([3]), two=np.array([2]), twenty=np.array([20]))
    assert not lower(model, isa).generic
    rng = np.random.default_rng(0)
    feed = {"x": rng.integers(-2, 3, (2, 5, 7)).astype(np.float32), "line": rng.permutation(20).astype(np.float32)}
    feed["image"] = rng.permutation(96).reshape(1, 6, 4, 4).astype(np.float32)
    assert_like_onnxruntime(model, feed, isa, tmp_path)


def test_infinite_numbers(newest, tmp_path):
    model = graph("(float[4] x) => (float[4] y, int64[4] at) { y, at = TopK(x, four) }", four=np.array([4]))
    feed = {"x": np.array([-np.inf, 1, np.inf, -np.inf], np.float32)}
    results = compiled_outputs(model, feed, newest, tmp_path)
    np.testing.assert_array_equal(results["at"], [2, 1, 0, 3])


def test_what_the_data_sizes_is_refused_by_name_with_the_way_out(newest):
    text = """(float[1,6,4] boxes, float[1,2,6] scores) => (int64[n] y) {
        chosen = NonMaxSuppression(boxes, scores, most)
        y = Gather<axis = 1>(chosen, place)
    }"""
    with pytest.raises(ModelError, match="the data decides how much NonMaxSuppression") as raised:
        lower(graph(text, most=np.array([3]), place=np.array(2)), newest)
    assert "end the model before" in raised.value.fix
