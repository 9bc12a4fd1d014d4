"""Operators without kernels of ours: TVM's loops where they are right, a refusal by name where not."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest
from kernel_checks.graphs import assert_like_onnxruntime, compiled_outputs, graph

from graphpress.backends.tvm.artifact import LibraryOptions, write_library
from graphpress.backends.tvm.lowering.lower import lower
from graphpress.backends.tvm.lowering.refusal import UnsupportedError
from graphpress.cache import NO_CACHE
from graphpress.errors import ModelError
from graphpress.runtime import CompiledModel

pytestmark = pytest.mark.usefixtures("here")

MANY = """(float[2,3,4] x, int64[2,3,4] n, bool[2,3,4] b, double[3] d) => (
    float[2,3,4] summed, int64[2,1,4] largest, float[2,1,1] log_sum, float[2,3,4,5] hot, float[2,2,4] picked,
    float[2,3,4] elements, float[2,3,4] scattered, float[2,3,4] triangle, int64[2,3,4] rest, bool[2,3,4] infinite,
    float[2,3,4] even, float[2,3,4] curved, float[2,3,4] unit, bool[2,3,4] same, int64[2,3,4] whole,
    float[2,5,8] mirrored, float[4,3,4] tiled, double[3] wide, bool[2,3,4] either, float[2,3,3] squares,
    float[2,2,6] cropped) {
    summed = CumSum(x, one)
    largest = ArgMax<axis = 1>(x)
    log_sum = ReduceLogSumExp(x, last_two)
    hot = OneHot(small, depth, off_on)
    picked = Gather<axis = 1>(x, two)
    elements = GatherElements<axis = 2>(x, small)
    scattered = ScatterND<reduction = "add">(x, places, updates)
    triangle = Trilu(x)
    rest = Mod(n, small_and_one)
    infinite = IsInf(x)
    even = Round(x)
    curved = Asinh(x)
    unit = Celu<alpha = 2.0>(x)
    same = Equal(n, small_and_one)
    whole = Cast<to = 7>(x)
    mirrored = Pad<mode = "reflect">(x, around)
    tiled = Tile(x, times)
    wide = Exp(d)
    either = Or(b, same)
    squares = Einsum<equation = "bij,bkj->bik">(x, x)
    cropped = CenterCropPad<axes = [1, 2]>(x, room)
}"""
SMALL = np.random.default_rng(1).integers(0, 3, (2, 3, 4))
CONSTANTS = {
    "one": np.array(1),
    "last_two": np.array([1, 2]),
    "depth": np.array(5),
    "off_on": np.array([-1, 2], np.float32),
    "two": np.array([-1, 0]),
    "small": SMALL,
    "small_and_one": SMALL + 1,
    "places": np.array([[1], [1]]),
    "updates": np.ones((2, 3, 4), np.float32),
    "around": np.array([0, 1, 2, 0, 1, 2]),
    "room": np.array([2, 6]),
    "times": np.array([2, 1, 1]),
}
FEED = {
    "x": (np.random.default_rng(0).standard_normal((2, 3, 4)) * 3).astype(np.float32),
    "n": np.random.default_rng(0).integers(-4, 4, (2, 3, 4)),
    "b": np.random.default_rng(0).random((2, 3, 4)) < 0.5,
    "d": np.array([0.5, -1.25, 3.0]),
}


def test_operators_without_kernels_of_ours_compute_what_onnxruntime_does(newest, tmp_path):
    assert_like_onnxruntime(graph(MANY, **CONSTANTS), FEED, newest, tmp_path, threads=2)
    needed = subprocess.run(["nm", "-D", "-u", "libmodel.so"], cwd=tmp_path, capture_output=True, text=True)
    assert "expf" in needed.stdout
    assert "TVM" not in needed.stdout


def test_the_program_says_which_nodes_and_why(newest):
    program = lower(graph("(float[2,3] x) => (float[2,3] y) { y = CumSum(x, one) }", one=np.array(1)), newest)
    assert program.generic == {"CumSum -> y": "the operator has no rule"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("(float[2,3] x) => (float[2,3] y) { y = RandomNormalLike(x) }", "TVM does not import it"),
        ("(float[4] x) => (int64[1,n] y) { y = NonZero(x) }", "no fixed shape"),
        ("(bool c, float[2] x) => (float[2] y) { y = If(c) <then_branch = g() => (float[2] a) { a = Identity(x) }, "
         "else_branch = h() => (float[2] e) { e = Neg(x) }> }", "graphs of its own"),
        ("(float[1,1,4,4] x) => (float[1,1,2,2] y, int64[1,1,2,2] n) { "
         "y, n = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) }", "places of its results"),
        ("(float[9] x) => (float[9] y) { y = Dropout(x, ratio, yes) }", "at random"),
        ("(double[4] x) => (bool[4] y) { y = IsInf<detect_negative = 0>(x) }", "something else than ONNX Runtime"),
        ("(float[1,1,8,8] x) => (float[1,1,3,3] y) { y = Resize<mode = \"linear\", antialias = 1>(x, , , sizes) }",
         "something else than ONNX Runtime"),
    ],
)  # fmt: skip
def test_what_has_no_loops_or_wrong_ones_is_refused_by_name(text, why, newest):
    with pytest.raises(ModelError, match=why):
        lower(graph(text, sizes=np.array([1, 1, 3, 3]), ratio=np.array(0.5, np.float32), yes=np.array(True)), newest)


def test_samples_of_an_open_batch_are_computed_one_by_one_where_that_is_the_same(newest, tmp_path):
    model = graph(
        "(float[1,3,4] x) => (float[1,3,4] y) { z = CumSum(x, one) y = CumSum(z, two) }",
        one=np.array(1),
        two=np.array(2),
    )
    program = lower(model, newest, batch_axes={"x": 0, "y": 0, "z": 0})
    write_library(program, newest, tmp_path, NO_CACHE, LibraryOptions(batched=True))
    data = np.random.default_rng(0).standard_normal((5, 3, 4)).astype(np.float32)
    result = CompiledModel(tmp_path, 2, 5).run({"x": data})["y"]
    np.testing.assert_allclose(result, data.cumsum(1).cumsum(2), rtol=1e-5, atol=1e-5)


def test_operators_that_mix_samples_of_an_open_batch_are_refused(newest):
    model = graph("(float[1,3,4] x) => (float[1,3,4] y) { y = CumSum(x, zero) }", zero=np.array(0))
    with pytest.raises(UnsupportedError, match="depends on the others"):
        lower(model, newest, batch_axes={"x": 0, "y": 0})


def test_indices_beyond_an_axis_read_no_foreign_memory(newest, tmp_path):
    text = "(float[3,4] x, int64[2,4] n) => (float[2,4] y) { y = GatherElements(x, n) }"
    feed = {"x": FEED["x"][0, :3], "n": np.array([[1 << 40, 1, 2, 0], [-(1 << 40), 9, -1, 3]])}
    result = compiled_outputs(graph(text), feed, newest, tmp_path)["y"]
    assert np.isin(result, feed["x"]).all()
    np.testing.assert_array_equal(result[0, 1:], feed["x"][[1, 2, 0], [1, 2, 3]])
