"""What is joined is computed in its place, where whole vectors allow; what comes out is the same wherever it lies."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

pytest.importorskip("tvm", reason="needs graphpress[tvm]")

from kernel_checks.graphs import assert_like_onnxruntime, compiled_outputs, graph

from graphpress.backends.tvm.kernels.generic import GenericLoops
from graphpress.backends.tvm.kernels.view_copy import ViewCopy
from graphpress.backends.tvm.lowering.lower import lower
from graphpress.ir import clone
from graphpress.ir.qdq import import_qdq
from graphpress.runtime import Session

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")

WIDE, ODD = 32, 20
"""Channels: whole vectors of all instruction sets, and of none."""
SHAPE = (2, WIDE, 5, 6)
FLOATS = {
    "two": ("a = Conv (x, w) b = Conv <pads=[1,1,1,1]> (x, v) j = Concat <axis=1> (a, b)", 0),
    "the last is no whole vectors": ("a = Conv (x, w) b = Conv (x, o) j = Concat <axis=1> (a, b)", 0),
    "the first is no whole vectors": ("b = Conv (x, o) a = Conv (x, w) j = Concat <axis=1> (b, a)", 1),
    "nested": (
        """a = Conv (x, w) b = Relu (a) i = Concat <axis=1> (a, b) c = Conv (i, w2)
        j = Concat <axis=1> (i, c)""",
        0,
    ),
    "dense": (
        """a = Conv (x, w) k = Concat <axis=1> (a) b = Conv (k, w) l = Concat <axis=1> (a, b) c = Conv (l, w2)
        j = Concat <axis=1> (a, b, c)""",
        0,
    ),
    "twice": ("a = Conv (x, w) b = Conv (a, w) j = Concat <axis=1> (a, a, b)", 1),
    "split and joined again": (
        """a = Conv (x, w2o) p, q = Split <axis=1, num_outputs=2> (a) b = Conv (q, w)
        j = Concat <axis=1> (p, q, b)""",
        0,
    ),
    "read with padding elsewhere": (
        "a = Conv (x, w) b = Conv <pads=[1,1,1,1]> (a, v) j = Concat <axis=1> (a, b)",
        1,
    ),
    "inputs and constants": ("a = Conv (x, w) j = Concat <axis=1> (x, a, n)", 2),
    "rows": ("a = Conv (x, w) b = Conv (a, w) j = Concat <axis=2> (a, b)", 2),
    "pools": (
        """a = MaxPool <kernel_shape=[1,1]> (x) b = AveragePool <kernel_shape=[1,1]> (x)
        j = Concat <axis=1> (a, b)""",
        0,
    ),
}
"""Nodes that join, and how many parts have to be copied."""
WEIGHTS = {"w": (WIDE, 1), "w2": (WIDE, 1, 2 * WIDE), "w2o": (2 * WIDE, 1), "o": (ODD, 1), "v": (WIDE, 3)}


def weights(text: str) -> dict[str, np.ndarray]:
    """Those that a text names: outputs, taps and, where there are others than of ``x``, inputs."""
    rng = np.random.default_rng(0)
    shapes = {name: (outputs, *(rest or [WIDE]), taps, taps) for name, (outputs, taps, *rest) in WEIGHTS.items()}
    shapes["n"] = (2, ODD, 5, 6)
    return {
        name: rng.standard_normal(shape).astype(np.float32) / 6 for name, shape in shapes.items() if f" {name})" in text
    }


def copies(model, isa) -> int:
    """Parts that are copied into what is joined."""
    steps = lower(model, isa).steps
    assert not any(isinstance(step.kernel, GenericLoops) for step in steps)
    return sum(isinstance(step.kernel, ViewCopy) and getattr(step.result, "name", "") == "j" for step in steps)


@pytest.mark.parametrize("case", FLOATS)
def test_floats(case, newest, tmp_path):
    text, expected = FLOATS[case]
    text = f"(float[{','.join(map(str, SHAPE))}] x) => (y, z) {{ {text} y = Relu (j) z = Sigmoid (a) }}"
    model = graph(text, **weights(text))
    assert copies(model, newest) == expected
    feed = {"x": np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)}
    assert_like_onnxruntime(model, feed, newest, tmp_path)


GRIDS = {"a": (0.031, 120), "b": (0.0173, 131), "j": (0.029, 118)}
CODES = {
    "of one grid": ("", "jj", 0),
    "of three": ("", "ab", 0),
    "behind a table": ("s = DequantizeLinear (b0c, b_scale, b_zero) b1 = Sigmoid (s)", "ab", 0),
    "read elsewhere": ("z = Tanh (ad)", "ab", 1),
}


def pair(value: str, grid: str, result: str) -> str:
    """Quantize and dequantize a value."""
    return f"""{result}c = QuantizeLinear ({value}, {grid}_scale, {grid}_zero)
        {result} = DequantizeLinear ({result}c, {grid}_scale, {grid}_zero)"""


@pytest.mark.parametrize("case", CODES)
def test_codes(case, newest, tmp_path):
    """Of other grids than the result's: rounded to both."""
    behind, grids, expected = CODES[case]
    table = "b1" in behind
    text = f"""(float[{",".join(map(str, SHAPE))}] x) => (y{", z" if "z" in behind.split() else ""}) {{
        a0 = Conv (x, w)
        b0 = Conv <pads=[1,1,1,1]> (x, v)
        b0c = QuantizeLinear (b0, b_scale, b_zero)
        {behind}
        {pair("a0", grids[0], "ad")}
        {pair("b1" if table else "b0", grids[1], "bd")}
        j = Concat <axis=1> (ad, bd)
        {pair("j", "j", "jd")}
        y = Abs (jd)
    }}"""
    text = text if table else text.replace("b0c = QuantizeLinear (b0, b_scale, b_zero)", "")
    scalars = {
        f"{name}_{part}": np.array(number, dtype)
        for name, grid in GRIDS.items()
        for part, number, dtype in zip(("scale", "zero"), grid, (np.float32, np.uint8), strict=True)
    }
    used = {name: array for name, array in scalars.items() if name in text}
    model = graph(text, **weights(text), **used)
    feed = {"x": np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)}
    answers = Session(model).run(feed)
    codes = clone(model)
    import_qdq(codes)
    assert copies(codes, newest) == expected
    for name, result in compiled_outputs(codes, feed, newest, tmp_path).items():
        np.testing.assert_allclose(result, answers[name], rtol=0, atol=1e-6, err_msg=name)


def test_few_channels_beside_others(newest, tmp_path):
    """Pixels that would be computed together lie apart in what is joined."""
    rng = np.random.default_rng(0)
    numbers = {"w": (32, 32, 1, 1), "v": (8, 32, 3, 3)}
    constants = {name: rng.standard_normal(shape).astype(np.float32) / 6 for name, shape in numbers.items()}
    for name, grid in GRIDS.items():
        constants |= {f"{name}_scale": np.array(grid[0], np.float32), f"{name}_zero": np.array(grid[1], np.uint8)}
    model = graph(
        f"""(float[1,32,4,32] x) => (y) {{
        a0 = Conv (x, w)
        b0 = Conv <pads=[1,1,1,1]> (x, v)
        {pair("a0", "a", "ad")}
        {pair("b0", "b", "bd")}
        j = Concat <axis=1> (ad, bd)
        {pair("j", "j", "jd")}
        y = Abs (jd)
    }}""",
        **constants,
    )
    feed = {"x": rng.standard_normal((1, 32, 4, 32)).astype(np.float32)}
    expected = Session(model).run(feed)["y"]
    codes = clone(model)
    import_qdq(codes)
    (result,) = compiled_outputs(codes, feed, newest, tmp_path).values()
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)
