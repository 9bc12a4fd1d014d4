"""The message without large constants: what it says, and that the model does not notice."""

import numpy as np
import onnx
from onnx import numpy_helper

from graphpress.ir import digest, from_proto, load, save
from graphpress.ir.light import to_light_proto


def model(build):
    return build("(float[2,4] x) => (float[2,8] y) { m = MatMul (x, w) y = Add (m, b) }",
                 w=np.ones((4, 8), np.float32), b=np.arange(8, dtype=np.float32))  # fmt: skip


def test_large_constants_are_inputs_and_small_ones_stay(build):
    whole = model(build)
    before = digest(whole)
    light = to_light_proto(whole, 8)
    assert [
        (value.name, [dim.dim_value for dim in value.type.tensor_type.shape.dim]) for value in light.graph.input
    ] == [
        ("x", [2, 4]),
        ("w", [4, 8]),
    ]
    assert [tensor.name for tensor in light.graph.initializer] == ["b"]
    onnx.checker.check_model(light)
    assert digest(whole) == before
    assert [value.name for value in whole.graph.inputs] == ["x"]


def test_small_constants_of_a_file_come_with_their_contents(build, tmp_path):
    proto = onnx.load(save(model(build), tmp_path / "model.onnx")[0])
    onnx.external_data_helper.convert_model_to_external_data(proto, location="model.data", size_threshold=0)
    onnx.save(proto, tmp_path / "outside.onnx")
    light = to_light_proto(load(tmp_path / "outside.onnx"), 8)
    (bias,) = light.graph.initializer
    np.testing.assert_array_equal(numpy_helper.to_array(bias), np.arange(8, dtype=np.float32))
    assert [value.name for value in from_proto(light).graph.inputs] == ["x", "w"]
