"""The ONNX Runtime backend: what it expresses, writes, runs and reports."""

import re
from dataclasses import replace

import numpy as np
import onnx
import onnx.parser
import pytest

from graphpress.backend import CompileOptions
from graphpress.backends.onnxruntime.backend import OnnxRuntimeBackend
from graphpress.errors import ModelError
from graphpress.ir import clone, from_proto, serialize
from graphpress.ir.encoding import compute_request, request_compute
from graphpress.manager.contract import Context
from graphpress.manager.prepare import prepare
from graphpress.models import build
from graphpress.passes.quantize.quantize import Quantize
from graphpress.runtime import Session
from graphpress.targets import load_target

FEED = {"input": np.random.default_rng(0).normal(size=(4, 3, 16, 16)).astype(np.float32)}


@pytest.fixture(scope="module")
def backend():
    return OnnxRuntimeBackend()


@pytest.fixture(scope="module")
def network():
    model = build("resnet", depth=8, stem="cifar", width=8, image=16, batch_norm=False)
    prepare(model, {})
    return model


@pytest.fixture(scope="module")
def quantized(network):
    model = clone(network)
    Quantize().run(model, Context(target=load_target("cpu"), original=network, calibration=[FEED]))
    return model


def test_it_is_available(backend):
    state = backend.available()
    assert state.works
    assert state.detail.startswith("onnxruntime ")


def test_legalizing_leaves_the_annotated_model_alone(backend, quantized):
    before = serialize(quantized)
    legal = backend.prepare(quantized, load_target("cpu")).delivered
    assert serialize(quantized) == before
    assert b"graphpress.encoding" not in serialize(legal)
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in legal.graph}
    onnx.checker.check_model(onnx.load_from_string(serialize(legal)), full_check=True)


def test_public_names_and_types_stay(backend, network, quantized):
    before, after = Session(network), Session(backend.prepare(quantized, load_target("cpu")).delivered)
    assert before.inputs == after.inputs
    assert before.output_names == after.output_names


def test_the_artifact_runs_what_was_written(backend, quantized, tmp_path):
    target = load_target("cpu")
    artifact = backend.compile(backend.prepare(quantized, target), CompileOptions(target), tmp_path)
    assert artifact.files == [tmp_path / "model.onnx"]
    np.testing.assert_array_equal(artifact.run(FEED)["logits"], Session(tmp_path / "model.onnx").run(FEED)["logits"])


def test_it_reports_in_which_type_each_node_really_computes(backend, network, quantized, tmp_path):
    target = load_target("cpu")
    for name, model, expected in (("float", network, "float32"), ("integer", quantized, "int8")):
        (tmp_path / name).mkdir()
        became = (
            backend.compile(backend.prepare(model, target), CompileOptions(target), tmp_path / name).findings().became
        )
        convolutions = [node.name for node in network.graph if node.op_type == "Conv"]
        assert {became.get(one, "float32") for one in convolutions} == {expected}


def test_the_form_costs_at_most_one_q_and_dq_a_value(backend, quantized):
    legal = backend.prepare(quantized, load_target("cpu")).delivered
    read = [node.inputs[0].name for node in legal.graph if node.op_type == "QuantizeLinear"]
    assert len(read) == len(set(read))


def test_another_form_of_the_same_grid_gives_the_same(backend, network):
    """Signed and unsigned activations with the zero-point moved along."""
    outputs = []
    for dtype in ("uint8", "int8"):
        policy = replace(load_target("cpu").quantization, activations=dtype)
        model = clone(network)
        target = replace(load_target("cpu"), quantization=policy)
        Quantize().run(model, Context(target=target, original=network, calibration=[FEED]))
        outputs.append(Session(backend.prepare(model, target).delivered).run(FEED)["logits"])
    scale = float(np.abs(outputs[0]).max())
    np.testing.assert_allclose(outputs[0], outputs[1], atol=0.02 * scale)


def test_a_model_that_the_runtime_refuses_is_an_error_of_the_model(backend, network, tmp_path):
    broken = clone(network)
    broken.graph[0].domain = "nowhere"
    broken.graph.opset_imports["nowhere"] = 1
    with pytest.raises(ModelError, match="cannot load"):
        backend.compile(backend.prepare(broken, load_target("cpu")), CompileOptions(load_target("cpu")), tmp_path)


def all_but_one(model):
    """A model quantized but for one layer, and the name of that."""
    name = [node.name for node in model.graph if node.op_type == "Conv"][1]
    quantized = clone(model)
    Quantize().run(quantized, Context(load_target("cpu"), model, calibration=[FEED], exclude=re.compile(f"^{name}$")))
    return quantized, name


def test_a_layer_that_was_left_float_computes_in_float(backend, network, tmp_path):
    (model, inner), target = all_but_one(network), load_target("cpu")
    prepared = backend.prepare(model, target)
    findings = backend.compile(prepared, CompileOptions(target), tmp_path).findings()
    assert findings.became.get(inner, "float32") == "float32"
    assert not findings.refusals


def test_a_layer_that_the_runtime_quantizes_by_itself_is_told(backend, network, tmp_path, monkeypatch):
    monkeypatch.setattr("graphpress.backends.onnxruntime.backend.keep_float_layers", lambda model: 0)
    (model, inner), target = all_but_one(network), load_target("cpu")
    prepared = backend.prepare(model, target)
    (refusal,) = backend.compile(prepared, CompileOptions(target), tmp_path).findings().refusals
    assert refusal.where == inner
    assert "rounds its weights" in refusal.why


def fused_products():
    """A product that ONNX Runtime fuses with its addition under a new name, and one that it does not."""
    proto = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["": 17]> g (float[8,16] x) => (float[8,4] y) {
        a = MatMul (x, w)
        b = Add (a, bias)
        r = Relu (b)
        y = MatMul (r, head)
    }""")
    random = np.random.default_rng(4)
    for name, shape in (("w", (16, 8)), ("bias", (8,)), ("head", (8, 4))):
        array = random.normal(size=shape).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    model = from_proto(proto)
    prepare(model, {})
    return model


def test_a_product_that_is_fused_in_integers_is_integer(backend, tmp_path):
    model, target = fused_products(), load_target("cpu")
    feed = {"x": np.random.default_rng(5).normal(size=(8, 16)).astype(np.float32)}
    Quantize().run(model, Context(target, clone(model), calibration=[feed], exclude=re.compile("^(Add|Relu)_")))
    became = backend.compile(backend.prepare(model, target), CompileOptions(target), tmp_path).findings().became
    assert {"MatMul_a": "int8", "MatMul_y": "int8"}.items() <= became.items()


def test_what_is_fused_into_a_float_kernel_is_float(backend, network, tmp_path):
    model, target = clone(network), load_target("cpu")
    for node in model.graph:
        if node.op_type in ("Conv", "Gemm"):
            request_compute(node, "int8")
    became = backend.compile(backend.prepare(model, target), CompileOptions(target), tmp_path).findings().became
    asked = {node.name for node in model.graph if compute_request(node) is not None}
    assert {became.get(name) for name in asked} == {"float32"}
