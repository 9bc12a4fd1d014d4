"""Quantization that came with a model: what has a legal form is no refusal, what has none is refused."""

import numpy as np
import pytest
from onnx import TensorProto as T

from graphpress.backends.tensorrt.legalize import canonical_form, weak_form
from graphpress.backends.tensorrt.lint import lint, unsupported
from graphpress.manager.prepare import prepare
from graphpress.targets import load_target

SYMMETRIC = {"dtype": T.UINT8, "zero": 128}

SUPPORTED = {
    "int8": {},
    "uint8 around 128": {"data": SYMMETRIC},
    "uint8 weights around 128": {"weight": SYMMETRIC},
    "uint4 weights around 8": {"weight": {"dtype": T.UINT4, "zero": 8}},
    "a bias in int32": {"bias": True},
    "all of it": {"data": SYMMETRIC, "weight": SYMMETRIC, "bias": True, "result": SYMMETRIC},
}

HAS_NONE = {
    "asymmetric uint8": ({"data": {"dtype": T.UINT8, "zero": 121}}, "x", "a zero-point that is not 0"),
    "asymmetric int8": ({"data": {"zero": -128}}, "x", "a zero-point that is not 0"),
    "uint8 from 0": ({"data": {"dtype": T.UINT8}}, "x", "came quantized to uint8"),
    "int16": ({"data": {"dtype": T.INT16}}, "x", "came quantized to int16"),
    "uint16 around its middle": ({"data": {"dtype": T.UINT16, "zero": 32768}}, "x", "came quantized to int16"),
    "asymmetric result": ({"result": {"zero": 5}}, "y", "a zero-point that is not 0"),
    "uint4 weights from 0": ({"weight": {"dtype": T.UINT4}}, None, "came quantized to uint4"),
}


def kernel(made, dtype=T.INT8, zero=0):
    """Integers and DQ."""
    integers = np.arange(32 * 32 * 9).reshape(32, 32, 3, 3) % 7 + zero
    return made.dequantize(made.constant(integers, dtype), np.full(32, 0.01), dtype=dtype, zero=zero, axis=0)


def model_of(net, *, data=None, weight=None, bias=False, result=None):
    """A convolution whose quantization stands in nodes, as exporters write it."""
    made = net(opset=21, dtype=T.FLOAT)
    operands = [made.grid("x", **(data or {})), kernel(made, **(weight or {}))]
    if bias:
        zeros = made.constant(np.zeros(32), T.INT32)
        operands.append(made.dequantize(zeros, np.full(32, 2e-4), dtype=T.INT32, axis=0))
    y = made.node("Conv", *operands, name="product")
    if result is not None:
        y = made.grid(y, **result)
        made.nodes[-1].output[0] = y = "y"
    model = made.output(y).model
    assert prepare(model, {}) == []
    return model


@pytest.mark.parametrize("name", SUPPORTED)
@pytest.mark.parametrize("target", ["jetson", "rtx"])
def test_what_canonicalization_settles_is_no_refusal(net, name, target):
    assert unsupported(model_of(net, **SUPPORTED[name]), load_target(target)) == []


def test_nothing_illegal_is_left(net):
    model = model_of(net, **SUPPORTED["all of it"])
    assert lint(weak_form(canonical_form(model).model), load_target("dgpu")) == []


@pytest.mark.parametrize("target", ["jetson", "jetson{dla=on}"])
@pytest.mark.parametrize("name", HAS_NONE)
def test_what_has_no_words_is_refused(net, name, target):
    options, where, why = HAS_NONE[name]
    (refusal,) = unsupported(model_of(net, **options), load_target(target))
    assert where in (None, refusal.where)
    assert why in refusal.why
    assert "start from the float model" in refusal.fix
    assert "extra_options={'ActivationSymmetric': True}" in refusal.fix


@pytest.mark.parametrize(("target", "fine"), [("jetson", True), ("jetson{jetpack=5.1}", False)])
def test_narrow_weights_where_they_are_known(net, target, fine):
    model = model_of(net, **SUPPORTED["uint4 weights around 8"])
    model.graph.opset_imports[""] = 17
    refusals = unsupported(model, load_target(target))
    assert (refusals == []) is fine
    assert fine or "came quantized to int4, which TensorRT 8.5 does not read" in refusals[0].why


@pytest.mark.parametrize("data", [{"dtype": T.UINT8, "zero": 121}, {"dtype": T.FLOAT8E5M2, "zero": 0}])
def test_pairs_that_stay_nodes_count_too(net, data):
    made = net(dtype=T.FLOAT16)
    model = made.output(made.node("Relu", made.grid("x", **data))).model
    assert prepare(model, {})
    refusals = unsupported(model, load_target("jetson"))
    assert {refusal.where for refusal in refusals} >= {"QuantizeLinear_0"}
