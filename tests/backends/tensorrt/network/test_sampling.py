"""Sampling on a grid, and the pooling of regions that is made of it."""

from __future__ import annotations

import numpy as np
import pytest

from graphpress.errors import ModelError
from graphpress.ir import from_proto

RANDOM = np.random.default_rng(0)


def normal(*shape, dtype=np.float32):
    return RANDOM.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize(
    ("opset", "modes"), [(16, ["bilinear", "nearest", "bicubic"]), (20, ["linear", "nearest", "cubic"])]
)
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("align", [0, 1])
def test_grid_sample(bench, one_node, opset, modes, padding, align):
    x, grid = normal(2, 3, 5, 6), RANDOM.uniform(-1.3, 1.3, (2, 4, 7, 2)).astype(np.float32)
    for mode in modes:
        attributes = {"mode": mode, "padding_mode": padding, "align_corners": align}
        model = one_node("GridSample", {"x": x, "grid": grid}, opset=opset, open_axes=[0], **attributes)
        bench.agrees(model, {"x": x, "grid": grid})


def test_a_grid_of_another_type_is_met_in_single_precision(bench, one_node):
    x, grid = normal(1, 2, 5, 6, dtype=np.float16), RANDOM.uniform(-1, 1, (1, 4, 7, 2)).astype(np.float32)
    network = bench.lower(from_proto(one_node("GridSample", {"x": x, "grid": grid}, opset=20), where="test"))
    assert network.get_output(0).dtype.name == "HALF"
    assert bench.build(network) > 0


def test_cubic_in_three_dimensions_is_refused(bench, one_node):
    model = one_node("GridSample", {"x": normal(1, 1, 4, 4, 4), "grid": normal(1, 2, 2, 2, 3)}, opset=20, mode="cubic")
    with pytest.raises(ModelError, match="cubic") as raised:
        bench.lower(from_proto(model, where="test"))
    assert "the node" in raised.value.where


# -- regions ------------------------------------------------------------------------------------------------------

REGIONS = np.array(
    [[0, 0, 3, 3], [1.3, 0.7, 7.9, 6.1], [-3, -2, 2, 1], [5, 5, 12, 11], [2, 2, 2.1, 2.2], [20, 20, 25, 25]], np.float32
)


@pytest.mark.parametrize(("opset", "mode"), [(10, None), (16, "output_half_pixel"), (16, "half_pixel"), (16, None)])
@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("open_axes", [[], [0, 2, 3]])
def test_regions(bench, one_node, opset, mode, images, open_axes):
    x = normal(images, 3, 9, 8)
    feed = {"x": x, "rois": REGIONS, "batch": np.arange(len(REGIONS)) % images}
    attributes = {"output_height": 2, "output_width": 3, "sampling_ratio": 2, "spatial_scale": 0.8}
    attributes |= {} if mode is None else {"coordinate_transformation_mode": mode}
    network = bench.agrees(one_node("RoiAlign", feed, opset=opset, open_axes=open_axes, **attributes), feed)
    assert open_axes or bench.build(network) > 0


@pytest.mark.parametrize("attributes", [{"sampling_ratio": 0}, {"sampling_ratio": 2, "mode": "max"}])
def test_regions_whose_samples_are_not_known_ahead_are_refused(bench, one_node, attributes):
    feed = {"x": normal(1, 1, 5, 5), "rois": REGIONS, "batch": np.zeros(len(REGIONS), np.int64)}
    with pytest.raises(ModelError, match="number of samples") as raised:
        bench.lower(from_proto(one_node("RoiAlign", feed, **attributes), where="test"))
    assert "sampling_ratio 2" in raised.value.fix
