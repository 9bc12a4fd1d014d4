"""Half precision in ONNX Runtime: what crashes there or makes kernels that do not exist is turned off."""

import subprocess
import sys
import textwrap

import numpy as np
import onnx.parser
import pytest
from onnx import numpy_helper

from graphpress.errors import ModelError
from graphpress.ir import from_proto, save, to_proto
from graphpress.ir.message_facts import MessageFacts
from graphpress.runtime import Session

TRANSPOSED = """<ir_version: 8, opset_import: ["": 17]> g (float[B,S,4] x) => (float[S,B,4] y) {
    h = Cast <to: int = 10> (x)
    t = Transpose <perm: ints = [1, 0, 2]> (h)
    m = MatMul (t, w)
    y = Cast <to: int = 1> (m)
}"""

CONCATENATED = """<ir_version: 9, opset_import: ["": 19]> g (float16[2,4] x, float16[2,4] z) => (float16[4,4] y) {
    a = QuantizeLinear (x, s, o)
    b = DequantizeLinear (a, s, o)
    c = QuantizeLinear (z, s, o)
    d = DequantizeLinear (c, s, o)
    e = Concat <axis: int = 0> (b, d)
    f = QuantizeLinear (e, s, o)
    y = DequantizeLinear (f, s, o)
}"""


def model_of(text, **weights):
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    return from_proto(proto)


def test_a_transpose_before_a_product_does_not_crash(tmp_path):
    """In a process of its own, for the crash would end this one; from a file and from memory."""
    save(model_of(TRANSPOSED, w=np.eye(4, dtype=np.float16)), tmp_path / "model.onnx")
    script = f"""
        import numpy as np
        from graphpress.ir import load
        from graphpress.runtime import Session
        path = {str(tmp_path / "model.onnx")!r}
        x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
        for model in (path, load(path)):
            np.testing.assert_array_equal(Session(model).run({{"x": x}})["y"], x.transpose(1, 0, 2))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "source", ["EyeLike <dtype: int = 10> (i)", "RandomNormal <dtype: int = 10, shape: ints = [4, 4]> ()"]
)
def test_a_type_that_an_attribute_names_counts(source):
    """Neither a weight nor an input nor a Cast shows the type here; the product would crash."""
    text = f"""<ir_version: 8, opset_import: ["": 17]> g (float[4,4] i) => (float16[4,2] y) {{
        a = {source}
        t = Transpose <perm: ints = [1, 0]> (a)
        m = MatMul (t, a)
        y = Slice (m, zero, two, one)
    }}"""
    numbers = {"zero": [0], "two": [2], "one": [1]}
    model = model_of(text, **{name: np.array(array, np.int64) for name, array in numbers.items()})
    assert MessageFacts.of(to_proto(model)).half


def test_a_type_without_kernels_says_so():
    text = """<ir_version: 8, opset_import: ["": 17]> g (bfloat16[2,2] x) => (bfloat16[2,2] y) { y = MatMul (x, x) }"""
    with pytest.raises(ModelError) as raised:
        Session(model_of(text))
    assert "type that a processor computes in" in raised.value.fix


def test_scales_in_half_run():
    model = model_of(CONCATENATED, s=np.array(0.5, np.float16), o=np.array(0, np.int8))
    feed = {name: np.full((2, 4), 1.5, np.float16) for name in "xz"}
    np.testing.assert_array_equal(Session(model).run(feed)["y"], np.full((4, 4), 1.5, np.float16))
