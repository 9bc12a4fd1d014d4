"""Resizing: modes and coordinates, scales and sizes, open dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper

from graphpress.errors import ModelError
from graphpress.ir import to_proto

node = helper.make_node
X = np.random.default_rng(0).normal(size=(1, 2, 4, 6)).astype(np.float32)
IMAGE = {"x": ("FLOAT", ["n", 2, 4, 6])}


def resize(make: Any, operands: dict[str, Any], inputs: Any = None, **attributes: Any) -> Any:
    names = ["x", "", *("" if name not in operands else name for name in ("scales", "sizes"))]
    while not names[-1]:
        names.pop()
    return make([node("Resize", names, ["y"], **attributes)], inputs or IMAGE, ["y"], operands, opset=19)


@pytest.mark.parametrize("coordinates", ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("scales", [(1, 1, 2, 3), (1, 1, 0.5, 0.5)])
def test_modes_and_coordinates(mode: str, coordinates: str, scales: Any, make: Any, bench: Any) -> None:
    model = resize(
        make, {"scales": np.array(scales, np.float32)}, mode=mode, coordinate_transformation_mode=coordinates
    )
    bench.agrees(to_proto(model), {"x": X})


@pytest.mark.parametrize("rounding", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
def test_roundings(rounding: str, make: Any, bench: Any) -> None:
    model = resize(make, {"scales": np.array([1, 1, 1.5, 0.5], np.float32)}, nearest_mode=rounding)
    bench.agrees(to_proto(model), {"x": X})


@pytest.mark.parametrize("known", [True, False])
def test_sizes(known: bool, make: Any, bench: Any) -> None:
    sizes = {"sizes": np.array([1, 2, 8, 5])}
    if known:
        bench.agrees(to_proto(resize(make, sizes, mode="linear")), {"x": X})
        return
    operation = node("Resize", ["x", "", "", "sizes"], ["y"], mode="linear")
    model = make([operation], IMAGE | {"sizes": ("INT64", [4])}, ["y"], opset=19)
    bench.agrees(to_proto(model), {"x": X} | sizes)


@pytest.mark.parametrize("policy", ["not_larger", "not_smaller"])
def test_aspect_ratios(policy: str, make: Any, bench: Any) -> None:
    model = resize(
        make,
        {"sizes": np.array([8, 9])},
        {"x": ("FLOAT", [1, 2, 4, 6])},
        axes=[2, 3],
        keep_aspect_ratio_policy=policy,
    )
    network = bench.lower(model)
    scale = (min if policy == "not_larger" else max)(8 / 4, 9 / 6)
    assert tuple(network.get_output(0).shape) == (1, 2, int(4 * scale + 0.5), int(6 * scale + 0.5))


def test_the_nearest_pixel_of_tensorflow(make: Any, bench: Any) -> None:
    model = resize(
        make,
        {"scales": np.array([1, 1, 1.5, 1.5], np.float32)},
        coordinate_transformation_mode="tf_half_pixel_for_nn",
        nearest_mode="floor",
    )
    model.graph.opset_imports[""] = 11
    (got,) = bench.run(bench.lower(model), {"x": X})
    rows, columns = (np.floor((np.arange(size) + 0.5) / 1.5).astype(int) for size in (6, 9))
    np.testing.assert_array_equal(got, X[:, :, rows][:, :, :, columns])


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_upsample(mode: str, make: Any, bench: Any) -> None:
    operation = node("Upsample", ["x", "scales"], ["y"], mode=mode)
    model = make([operation], IMAGE, ["y"], {"scales": np.array([1, 1, 2, 2], np.float32)}, opset=9)
    bench.agrees(to_proto(model), {"x": X})


@pytest.mark.parametrize(
    ("attributes", "scale", "message"),
    [
        ({"antialias": 1, "mode": "linear"}, 0.5, "without antialiasing"),
        ({"coordinate_transformation_mode": "tf_crop_and_resize"}, 2, "does not resize by nearest, tf_crop_and_resize"),
        ({"coordinate_transformation_mode": "half_pixel_symmetric"}, 2, "half_pixel_symmetric"),
        ({"coordinate_transformation_mode": "align_corners", "mode": "linear"}, 0.6, "no whole numbers"),
    ],
)
def test_refusals(attributes: Any, scale: float, message: str, make: Any, bench: Any) -> None:
    with pytest.raises(ModelError, match=message):
        bench.lower(resize(make, {"scales": np.array([1, 1, scale, scale], np.float32)}, **attributes))


def test_integers_are_refused(make: Any, bench: Any) -> None:
    model = resize(make, {"scales": np.array([1, 1, 2, 2], np.float32)}, {"x": ("INT32", [1, 1, 2, 2])})
    with pytest.raises(ModelError, match="floats only"):
        bench.lower(model)


def test_they_build(make: Any, bench: Any) -> None:
    nodes = [
        node("Resize", ["x", "", "scales"], ["a"], mode="linear"),
        node("Resize", ["a", "", "", "sizes"], ["b"], axes=[2, 3]),
        node("Resize", ["b", "", "scales"], ["c"], mode="cubic"),
    ]
    constants = {"scales": np.array([1, 1, 2, 2], np.float32), "sizes": np.array([5, 7])}
    network = bench.lower(make(nodes, {"x": ("FLOAT16", ["n", 2, 4, 6])}, ["c"], constants, opset=19))
    assert bench.build(network) > 0
