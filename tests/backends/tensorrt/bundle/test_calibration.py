"""The calibration cache, byte by byte."""

import struct

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphpress.backends.tensorrt.bundle.calibration import calibration_cache, version_number
from graphpress.ir import from_proto
from graphpress.ir.encoding import AffineEncoding, override_use, set_encoding


def chain():
    """x -> Conv -> Relu -> Conv -> y."""
    weight = np.ones((2, 2, 1, 1), np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "c1"),
        helper.make_node("Relu", ["a"], ["b"], "r"),
        helper.make_node("Conv", ["b", "w"], ["y"], "c2"),
    ]
    shape = [1, 2, 4, 4]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weight, "w")],
    )
    return from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def per_tensor(scale: float, dtype: str = "int8", zero_point: int = 0) -> AffineEncoding:
    return AffineEncoding(dtype, (scale,), (zero_point,))


def values(model):
    return {value.name: value for node in model.graph for value in (*node.inputs, *node.outputs)}


def test_scales_are_big_endian_floats():
    model, annotated = chain(), chain()
    set_encoding(values(annotated)["x"], per_tensor(1.0))
    set_encoding(values(annotated)["b"], per_tensor(0.0078740157186985))
    assert calibration_cache(model, annotated, "10.3") == ("TRT-100300-EntropyCalibration2\nx: 3f800000\nb: 3c010204\n")


def test_what_has_no_such_scale_is_left_out():
    annotated = chain()
    named = values(annotated)
    set_encoding(named["w"], per_tensor(1.0))
    set_encoding(named["x"], per_tensor(1.0, "uint8", 128))
    set_encoding(named["a"], AffineEncoding("int8", (1.0, 2.0), (0, 0), axis=1))
    assert calibration_cache(chain(), annotated, "8.5.2") == "TRT-8502-EntropyCalibration2\n"


def test_a_scale_that_only_one_reader_has_counts():
    annotated = chain()
    node = annotated.graph[2]
    override_use(node, 0, per_tensor(0.5))
    assert calibration_cache(chain(), annotated, "10.3").endswith("\nb: 3f000000\n")


def test_tensors_that_the_built_model_does_not_have_are_left_out():
    annotated, model = chain(), chain()
    set_encoding(values(annotated)["a"], per_tensor(1.0))
    values(model)["a"].name = "other"
    assert calibration_cache(model, annotated, "10.3").count("\n") == 1


@pytest.mark.parametrize(
    ("version", "number"), [("8.5", 8500), ("8.6.2", 8602), ("10.13", 101300), ("10.3.0.30", 100300)]
)
def test_version_numbers_are_nvidias(version, number):
    assert version_number(version) == number


def test_every_quantized_activation_of_a_network_has_its_scale(bundles, written):
    folder, bundle = written("jetson{dla=on}"), bundles("jetson{dla=on}")
    first, *lines = (folder / "calibration.cache").read_text().splitlines()
    assert first == "TRT-100300-EntropyCalibration2"
    known = {value.name for node in bundle.models["float"].graph for value in node.outputs} | {"input"}
    for line in lines:
        name, _, digits = line.rpartition(": ")
        assert name in known
        assert 0 < struct.unpack(">f", bytes.fromhex(digits))[0] < 10
    assert len(lines) >= 8
