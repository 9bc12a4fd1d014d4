"""Values in several grids of codes: each reader gets its own, of numbers that were rounded once."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

pytest.importorskip("tvm", reason="needs graphpress[tvm]")

from kernel_checks.graphs import compiled_outputs, graph

from graphpress.ir import clone
from graphpress.ir.qdq import import_qdq
from graphpress.runtime import Session

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")

SHAPE = (1, 16, 5, 6)
GRIDS = {"a": (0.031, 120), "b": (0.0173, 131)}
SCALARS = {
    f"{name}_{part}": np.array(number, dtype)
    for name, grid in GRIDS.items()
    for part, number, dtype in zip(("scale", "zero"), grid, (np.float32, np.uint8), strict=True)
}


def pair(value: str, grid: str) -> str:
    """Quantize and dequantize a value, and use it."""
    return f"""{value}_codes = QuantizeLinear ({value}, {grid}_scale, {grid}_zero)
        {value}_numbers = DequantizeLinear ({value}_codes, {grid}_scale, {grid}_zero)
        y_{value} = Abs ({value}_numbers)"""


CASES = {
    "parts in two grids": "p, q = Split <axis=1, num_outputs=2> (f)",
    "parts, and one that nobody reads": "p, q, r = Split <axis=1> (f, thirds)",
    "turned, then parts": "t = Transpose <perm=[0,2,3,1]> (f) p, q = Split <axis=3, num_outputs=2> (t)",
    "a value and a view of it": "p = Identity (f) q = Flatten (f)",
    "a pool of codes": f"{pair('f', 'a')} p = Identity (f) q = MaxPool <kernel_shape=[2,2]> (f_numbers)",
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("grids", ["ab", "aa"])
def test_each_reader_has_its_own_codes(case, grids, newest, tmp_path):
    text = f"""(float[{",".join(map(str, SHAPE))}] x) => (y_p, y_q) {{
        f = Tanh (x)
        {CASES[case]}
        {pair("p", grids[0])}
        {pair("q", grids[1])}
    }}"""
    model = graph(text, thirds=np.array([6, 4, 6]), **SCALARS)
    feed = {"x": np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)}
    expected = Session(model).run(feed)
    codes = clone(model)
    import_qdq(codes)
    for name, result in compiled_outputs(codes, feed, newest, tmp_path).items():
        np.testing.assert_allclose(result, expected[name], rtol=0, atol=1e-6, err_msg=name)
