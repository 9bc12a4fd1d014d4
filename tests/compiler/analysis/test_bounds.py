"""Analyses of models that are small as files and large as what they compute: bounded, whatever they say."""

import math
import subprocess
import sys

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import helper, numpy_helper

from graphpress.analysis.memory import least_activation_bytes, peak_activation_bytes
from graphpress.analysis.reference import LARGEST, compute_node
from graphpress.analysis.shapes import concrete_shapes, infer_shapes
from graphpress.ir import from_proto

LONG = 20_000_000
MOST_RESIDENT_MB = 900
"""Of the process below; onnx alone takes 2,700 for one vector of that length."""


def model(text, functions="", **constants):
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 18, "own": 1]> {text} {functions}')
    proto.graph.initializer.extend(numpy_helper.from_array(np.array(array), name) for name, array in constants.items())
    return proto


def joined(times, levels):
    steps = [f"v{level + 1} = Concat <axis = 0> ({', '.join([f'v{level}'] * times)})" for level in range(levels)]
    return f"g (int64[2, 3] x) => (int64[N] v{levels}) {{ v0 = Shape (x) {' '.join(steps)} }}"


HOSTILE = {
    "an input": model(f"g (int64[{LONG}] x) => (int64[{LONG}] y) {{ y = Mul (x, x) }}"),
    "numbers": model(f"g (float[{LONG}] x) => (float[{LONG}] y) {{ y = Add (x, x) }}"),
    "in a function": model(
        f"g (int64[{LONG}] x) => (int64[{LONG}] y) {{ y = own.f (x) }}",
        '<domain: "own", opset_import: ["": 18]> f (a) => (b) { b = Mul (a, a) }',
    ),
    "made on the way": model(
        "g (int64[1] x) => (int64[N] y) { a = ConstantOfShape (size) b = Mul (a, a) y = Cast <to = 7> (b) }",
        size=[LONG],
    ),
    "joined": model(joined(10, 8)),
}


@pytest.mark.skipif(sys.platform != "linux", reason="no other system bounds the address space, or tells its use")
@pytest.mark.parametrize("name", HOSTILE)
def test_inference_over_long_vectors_takes_little_memory(name, tmp_path):
    onnx.save(HOSTILE[name], tmp_path / "m.onnx")
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from graphpress.analysis.shapes import concrete_shapes, infer_shapes, settle_shapes\n"
        "from graphpress.ir import load\n"
        "model = load(sys.argv[1])\n"
        "print(len(concrete_shapes(model)))\n"
        "infer_shapes(model)\n"
        "settle_shapes(model)\n"
        "print(Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0])"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "m.onnx"], capture_output=True, text=True, check=True)
    shapes, resident_kb = map(int, done.stdout.split())
    assert shapes >= 1
    assert resident_kb < 1000 * MOST_RESIDENT_MB


def test_shapes_of_short_vectors_are_still_propagated():
    proto = model(
        "g (float[2,3] x) => (float[a,b] y) { s = Shape (x) t = Mul (s, two) y = ConstantOfShape (t) }", two=2
    )
    assert concrete_shapes(from_proto(proto))["y"] == (4, 6)
    loaded = from_proto(proto)
    assert infer_shapes(loaded) == []


# -- ONNX's reference implementation ----------------------------------------------------------------------------

HUGE = 10**9
GROWING = {
    "ConstantOfShape": ([[HUGE]], {}),
    "Expand": ([[1.0], [HUGE]], {}),
    "Tile": ([[1.0, 2.0], [HUGE]], {}),
    "Pad": ([[1.0], [HUGE, 0]], {}),
    "Range": ([0, HUGE, 1], {}),
    "OneHot": ([[1, 2], HUGE, [0.0, 1.0]], {}),
    "Resize": ([np.ones((1, 1, 2, 2), np.float32), None, None, [1, 1, HUGE, HUGE]], {}),
    "EyeLike": ([np.ones((1, HUGE // 10**6), np.float32)], {"dtype": 1}),
    "Reshape": ([[1.0, 2.0], [2, 1]], {}),
    "MatMul": ([np.ones((1024, 1)), np.ones((1, 1024))], {}),
    "CenterCropPad": ([np.ones((2, 2)), [HUGE, HUGE]], {}),
}


def one_node(op_type, operands, **attributes):
    feed = {f"i{at}": np.array(operand) for at, operand in enumerate(operands) if operand is not None}
    names = ["" if operand is None else f"i{at}" for at, operand in enumerate(operands)]
    return helper.make_node(op_type, names, ["o"], **attributes), feed


@pytest.mark.parametrize("op_type", GROWING)
def test_nothing_large_is_computed(op_type):
    operands, attributes = GROWING[op_type]
    node, feed = one_node(op_type, operands, **attributes)
    results = compute_node(node, feed, [helper.make_opsetid("", 18)], 8)
    assert results is None or results[0].size <= LARGEST


def test_what_is_small_is_computed():
    node, feed = one_node("Expand", [[1.0, 2.0], [3, 2]])
    (result,) = compute_node(node, feed, [helper.make_opsetid("", 18)], 8)
    assert result.tolist() == [[1.0, 2.0]] * 3
    node, feed = one_node("NonZero", [[0, 1, 1]])
    (result,) = compute_node(node, feed, [helper.make_opsetid("", 18)], 8)
    assert result.tolist() == [[1, 2]]


# -- a lower bound of the memory of one run ---------------------------------------------------------------------

LEAST = {
    "x and y at once": ("g (float[10] x) => (float[10] y) { y = Neg (x) }", 2 * 40),
    "one in place of the other": ("g (float[10] x) => (float[10] y) { a = Neg (x) b = Abs (a) y = Exp (b) }", 2 * 40),
    "both branches": ("g (float[10] x) => (float[10] y) { a = Neg (x) b = Abs (x) y = Add (a, b) }", 3 * 40),
    "more than is declared": ("g (float[10] x) => (float[M,N] y) { y = Expand (x, twice) }", 40 + 80),
    "open axes count as one": ("g (float[N,10] x) => (float[N,10] y) { y = Neg (x) }", 2 * 40),
    "a view": ("g (float[10] x) => (float[2,5] y) { y = Reshape (x, shape) }", 40),
    "what grows is no view": ("g (float[1] x) => (float[2,5] y) { y = Expand (x, shape) }", 4 + 40),
    "halves": ("g (float16[10] x) => (float16[10] y) { y = Neg (x) }", 2 * 20),
}


@pytest.mark.parametrize("name", LEAST)
def test_least_memory(name):
    text, least = LEAST[name]
    loaded = from_proto(model(text, shape=[2, 5], twice=[2, 10]))
    infer_shapes(loaded)
    assert least_activation_bytes(loaded, {"y": (2, 10)} if "M" in text else {}) == least


def test_least_memory_is_no_more_than_the_peak():
    text = "g (float[8,8] x) => (float[8,8] y) { a = MatMul (x, x) b = Transpose (a) c = Add (a, b) y = Softmax (c) }"
    loaded = from_proto(model(text))
    infer_shapes(loaded)
    shapes = concrete_shapes(loaded)
    least, peak = least_activation_bytes(loaded, shapes), peak_activation_bytes(loaded, shapes)
    assert math.prod((8, 8, 4)) <= least <= peak
