"""Users try a form for TensorRT in ONNX Runtime first, with default options: it loads there and computes the same."""

import numpy as np
import onnx.parser
import onnxruntime
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidGraph

from graphpress.backends.tensorrt.legalize import canonical_form, strong_form, weak_form
from graphpress.ir import DataType, from_proto, serialize
from graphpress.manager.contract import Context
from graphpress.manager.evaluator import NoEvaluator
from graphpress.manager.manager import Manager
from graphpress.manager.prepare import prepare
from graphpress.manager.recipe import from_text
from graphpress.models import build
from graphpress.runtime import Session
from graphpress.targets import load_target

FLIPS = 0.05
"""How far other roundings between the layers move an output, as a part of the largest one."""
FAMILIES = {
    "resnet": {"depth": 18, "width": 8, "image": 32},
    "squeezenet": {},
    "densenet": {"image": 32},
    "unet": {"image": 32},
}
HALF_CONCAT = """<ir_version: 9, opset_import: ["": 19]>
g (float16[1,4] x) => (float16[1,8] y) <float16 s = {14336}, int8 z = {0}>
{ q = QuantizeLinear(x, s, z) a = DequantizeLinear(q, s, z) b = Neg(x) c = QuantizeLinear(b, s, z)
  d = DequantizeLinear(c, s, z) o = Concat<axis=1>(a, d) p = QuantizeLinear(o, s, z) y = DequantizeLinear(p, s, z) }"""


@pytest.fixture(scope="module", params=FAMILIES)
def annotated(request):
    model = build(request.param, batch=1, **FAMILIES[request.param])
    prepare(model, {})
    manager = Manager(Context(load_target("jetson"), model, calibration=[feed_of(model)]), NoEvaluator(), (), "none")
    passes = from_text("raise_opset{to=19},cleanup,fuse,quantize,reduce_precision")
    return manager.run(model, passes).checkpoints[-1].model


def feed_of(model):
    random = np.random.default_rng(7)
    return {spec.name: random.normal(size=spec.dims).astype(spec.dtype) for spec in Session(model).inputs}


def plain_session(model):
    return onnxruntime.InferenceSession(serialize(model), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("form", [strong_form, weak_form])
def test_a_form_loads_and_computes_the_same_with_default_options(annotated, form):
    """Biases are what the optimizer spoils there, and concatenations in half precision what it cannot load."""
    made = form(canonical_form(annotated).model)
    feed = feed_of(annotated)
    (plain,), (expected,) = plain_session(made).run(None, feed), Session(made).run(feed).values()
    assert np.abs(plain - expected).max() <= FLIPS * np.abs(expected).max()
    assert "use" not in made.metadata_props


def test_a_form_says_where_it_needs_an_option():
    """Scales in half precision that came with the model are no encodings: their nodes stay as they are."""
    made = strong_form(canonical_form(from_proto(onnx.parser.parse_model(HALF_CONCAT))).model)
    with pytest.raises(InvalidGraph, match="QLinearConcat"):
        plain_session(made)
    assert "session.disable_quant_qdq" in made.metadata_props["use"]


def test_a_concat_with_a_float_reader_or_operand_stays_in_half_precision(annotated):
    made = strong_form(canonical_form(annotated).model)
    for concat in (node for node in made.graph if node.op_type == "Concat"):
        readers = {use.node.op_type for use in concat.outputs[0].uses()}
        makers = {value.producer().op_type for value in concat.inputs}
        quantized = (readers, makers) == ({"QuantizeLinear"}, {"DequantizeLinear"})
        assert concat.outputs[0].dtype == (DataType.FLOAT if quantized else DataType.FLOAT16)
