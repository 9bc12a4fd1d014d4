"""Int8 on whole architectures with made-up data: every convolution in integers, and how much noise that makes."""

import numpy as np
import pytest

from graphpress.analysis.linear import linear_op_of
from graphpress.ir.encoding import read_encoding
from graphpress.manager.contract import Context
from graphpress.manager.evaluator import NoEvaluator
from graphpress.manager.manager import Manager
from graphpress.manager.prepare import prepare
from graphpress.manager.recipe import from_name
from graphpress.models import build as build_family
from graphpress.passes.fusion.raise_opset import RaiseOpset
from graphpress.passes.quantize.quantize import Quantize
from graphpress.runtime import Session
from graphpress.targets import load_target

MIN_SQNR = {"resnet": 30, "mobilenet_v2": 25, "unet": 24, "bert": 31, "vit": 36, "vgg": 28, "densenet": 37}
"""In dB, on the noisiest output; about 3 dB below what was measured."""


def feeds_for(model, count=8):
    random = np.random.default_rng(1)
    inputs = Session(model).inputs
    sizes = {"batch": 2, "N": 2}

    def array(spec):
        dims = [dim if isinstance(dim, int) else sizes.get(dim, 16) for dim in spec.dims]
        if spec.dtype.kind == "i":
            return random.integers(0, 2, dims).astype(spec.dtype)
        return random.normal(size=dims).astype(np.float32)

    return [{spec.name: array(spec) for spec in inputs} for _ in range(count)]


def cleaned(model):
    """Through the clean-up and fusions that come before quantization by default."""
    target = load_target("cpu")
    prepare(model, {})
    recipe = from_name("int8")
    lossless = type(recipe)(tuple(one for one in recipe.passes if one.lossless))
    manager = Manager(Context(target=target, original=model), NoEvaluator(), feeds_for(model, 1), verification="none")
    return manager.run(model, lossless).checkpoints[-1].model


def raised(model):
    RaiseOpset(to=19).run(model, Context(target=load_target("jetson"), original=model))
    return model


@pytest.mark.parametrize("family", MIN_SQNR)
def test_noise_and_placement(quantize, family):
    model = cleaned(build_family(family))
    done = quantize(model, feeds_for(model), one=Quantize())
    convolutions = {node.outputs[0].name for node in model.graph if node.op_type == "Conv"}
    assert convolutions <= done.integer
    assert done.outcome.changes > 0
    worst = min(done.sqnr().values())
    assert worst > MIN_SQNR[family], f"{worst:.1f} dB"


JETSON_SQNR = {
    "resnet": 28,
    "mobilenet_v2": 22,
    "unet": 24,
    "bert": 27,
    "vit": 35,
    "vgg": 26,
    "densenet": 34,
    "yolo": 28,
}
"""In dB, likewise, with symmetric activations."""
FLOAT_ONLY = ("LayerNormalization", "RMSNormalization", "Softmax", "Gelu")


@pytest.mark.parametrize("family", JETSON_SQNR)
def test_what_tensorrt_wants_of_quantizers(quantize, jetson, family):
    """Symmetric, along output channels, none at biases, behind activations, one scale for a concatenation."""
    model = raised(cleaned(build_family(family)))
    done = quantize(model, feeds_for(model), target=jetson)
    for node in done.model.graph:
        for index, value in enumerate(node.inputs):
            encoding = None if value is None else read_encoding(node, index)
            if encoding is None:
                continue
            assert (encoding.dtype, set(encoding.zero_point.flat)) == ("int8", {0})
            assert index < 2 or node.op_type == "Concat"
            if index == 1 and node.op_type in ("Conv", "Gemm", "MatMul"):
                assert encoding.axis == linear_op_of(node).out_axis
    legal = done.legal()
    for node in legal.graph:
        if node.op_type == "DequantizeLinear":
            readers = {use.node.op_type for use in node.outputs[0].uses()}
            assert not readers & {*FLOAT_ONLY, "Relu", "Clip", "LeakyRelu", "HardSwish"}
            assert not node.outputs[0].is_graph_output()
        if node.op_type == "Concat":
            makers = [value.producer() for value in node.inputs]
            scales = [one.inputs[1] for one in makers if one is not None and one.op_type == "DequantizeLinear"]
            assert len(set(scales)) <= 1
    worst = min(done.sqnr().values())
    assert worst > JETSON_SQNR[family], f"{worst:.1f} dB"
