"""Tables of taps against ONNX Runtime's Resize."""

from __future__ import annotations

from itertools import product

import numpy as np
import onnx
import pytest

pytest.importorskip("tvm", reason="needs graphpress[tvm]")

from graphpress.backends.tvm.lowering.interpolation import taps_of
from graphpress.ir import NodeView, from_proto
from graphpress.ops.semantics.resize import ResizeAttributes
from graphpress.runtime import Session

COORDINATES = ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"]
ROUNDINGS = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]
CASES = [
    *({"mode": "nearest", "nearest_mode": rounding} for rounding in ROUNDINGS),
    *({"mode": mode} for mode in ("linear", "cubic")),
    {"mode": "cubic", "cubic_coeff_a": -0.5, "exclude_outside": 1},
]


def resize(size: int, factor: float, attributes: dict):
    """A model that resizes the last axis."""
    node = onnx.helper.make_node("Resize", ["x", "", "scales"], ["y"], **attributes)
    shapes = [onnx.helper.make_tensor_value_info(name, 1, [1, 1, 4, None]) for name in "xy"]
    shapes[0].type.tensor_type.shape.dim[3].dim_value = size
    scales = onnx.numpy_helper.from_array(np.array([1, 1, 1, factor], np.float32), "scales")
    graph = onnx.helper.make_graph([node], "resize", shapes[:1], shapes[1:], [scales])
    return from_proto(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 19)], ir_version=9))


@pytest.mark.parametrize(("case", "coordinates"), product(CASES, COORDINATES), ids=str)
def test_taps_are_those_of_onnxruntime(case, coordinates):
    for size, factor in ((5, 2.0), (7, 0.65), (4, 2.75), (9, 0.45)):
        model = resize(size, factor, {**case, "coordinate_transformation_mode": coordinates})
        x = np.random.default_rng(0).standard_normal((1, 1, 4, size)).astype(np.float32)
        (expected,) = Session(model).run({"x": x}).values()
        attributes = ResizeAttributes.of(NodeView.of(model.graph[0]))
        taps = taps_of(attributes, size, expected.shape[-1], factor)
        result = (x[..., taps.places] * taps.weights).sum(-1)
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


def test_what_has_no_table():
    crop = {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize"}
    for attributes in (crop, {"mode": "linear", "antialias": 1}):
        view = NodeView.of(resize(8, 0.5, attributes).graph[0])
        assert taps_of(ResizeAttributes.of(view), 8, 4, 0.5) is None
