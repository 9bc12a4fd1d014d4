"""The text form: golden, stable, and of every family."""

import os
from pathlib import Path

import numpy as np
import pytest

from graphpress.ir import clone, load, save
from graphpress.ir.encoding import (
    AffineEncoding,
    CastEncoding,
    CodebookEncoding,
    dynamic_encoding,
    override_output,
    override_use,
    request_compute,
    set_encoding,
)
from graphpress.ir.printer import print_model
from graphpress.models import build as build_family
from graphpress.models import names

GOLDEN = Path(__file__).parents[2] / "golden"


def check(name, text):
    """Compare with the golden file; set UPDATE_GOLDEN to write it anew, then read the difference."""
    file = GOLDEN / f"print-{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(text)
    assert text == file.read_text()


def test_control_flow():
    check("control-flow", print_model(build_family("control_flow")))


def test_encodings(build, node_of):
    model = build(
        """(float[N,2] x) => (float[N,2] y, float[N,2] z) {
        h = MatMul (x, w)
        r = Clip (h, , high)
        y = Add (r, r)
        z = custom.Op <words: strings = ["a"], number: float = 0.1, list: floats = [0.5]> (r)
    }""",
        w=[[1.0, 2.0], [3.0, 4.0]],
        high=6.0,
    )
    set_encoding(model.graph.initializers["w"], AffineEncoding("int8", (0.1, 0.2), (0, 0), axis=1))
    set_encoding(model.graph.inputs[0], AffineEncoding("uint8", (0.1,), (3,)))
    set_encoding(node_of(model, "r").outputs[0], AffineEncoding("int4", ((0.1,) * 2,), axis=0, block=32))
    override_use(node_of(model, "y"), 1, "float")
    override_use(node_of(model, "z"), 0, dynamic_encoding("uint8"))
    override_use(node_of(model, "r"), 0, CodebookEncoding("uint4", np.zeros((16, 2)), np.ones((1, 2)), 0, 2))
    override_use(node_of(model, "r"), 2, CastEncoding("bfloat16"))
    request_compute(node_of(model, "h"), "int8")
    for output in model.graph.outputs:
        set_encoding(output, AffineEncoding("uint8", (0.1,), (3,)))
    override_output(model.graph.outputs[1], "float")
    check("encodings", print_model(model))


@pytest.mark.parametrize("family", names())
def test_the_text_is_the_same_after_a_clone_and_a_file(family, tmp_path):
    model = build_family(family)
    save(model, tmp_path / "m.onnx")
    assert print_model(model) == print_model(clone(model)) == print_model(load(tmp_path / "m.onnx"))
