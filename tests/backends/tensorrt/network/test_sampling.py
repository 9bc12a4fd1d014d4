"""Sampling on a grid, and the convolution and the pooling of regions that are made of it."""

from __future__ import annotations

import itertools

import numpy as np
import onnx.numpy_helper
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


def deformed(x, weight, offset, mask, groups, offset_groups, stride, pad, dilation):
    """A deformable convolution, one tap after the other (arXiv:1703.06211, equation 2; 1811.11168, equation 1)."""
    batch, channels, height, width = x.shape
    _, _, rows, columns = offset.shape
    out = np.zeros((batch, weight.shape[0], rows, columns))
    per_group, per_offset = weight.shape[1], channels // offset_groups
    for n, o, i, j in np.ndindex(out.shape):
        group = o // (weight.shape[0] // groups)
        for c, (ky, kx) in itertools.product(range(per_group), np.ndindex(weight.shape[2:])):
            channel = group * per_group + c
            tap = (channel // per_offset * weight.shape[2] + ky) * weight.shape[3] + kx
            y = i * stride - pad + ky * dilation + offset[n, 2 * tap, i, j]
            z = j * stride - pad + kx * dilation + offset[n, 2 * tap + 1, i, j]
            total = 0.0
            for a, b in itertools.product((0, 1), repeat=2):
                row, column = int(np.floor(y)) + a, int(np.floor(z)) + b
                if 0 <= row < height and 0 <= column < width:
                    total += (1 - abs(y - row)) * (1 - abs(z - column)) * x[n, channel, row, column]
            out[n, o, i, j] += total * weight[o, c, ky, kx] * (1 if mask is None else mask[n, tap, i, j])
    return out


@pytest.mark.parametrize(("groups", "offset_groups"), [(1, 1), (2, 1), (1, 2), (2, 2)])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("height", [1, 5])
def test_deformable_convolution(bench, one_node, groups, offset_groups, masked, height):
    stride, pad, dilation = 1, 2, 2
    x, weight, bias = normal(2, 4, height, 6), normal(2, 4 // groups, 2, 2), normal(2)
    rows, columns = height + 2 * pad - dilation, 6 + 2 * pad - dilation
    offset = normal(2, offset_groups * 8, rows, columns)
    mask = RANDOM.random((2, offset_groups * 4, rows, columns)).astype(np.float32)
    feed = {"x": x, "offset": offset} | ({"mask": mask} if masked else {})
    model = one_node(
        "DeformConv", feed, {"w": weight, "b": bias}, order=["x", "w", "offset", "b", *(["mask"] if masked else [])],
        group=groups, offset_group=offset_groups, pads=[pad] * 4, dilations=[dilation] * 2, open_axes=[0],
    )  # fmt: skip
    network = bench.lower(from_proto(model, where="test"))
    (result,) = bench.run(network, feed)
    wanted = deformed(x, weight, offset, mask if masked else None, groups, offset_groups, stride, pad, dilation)
    np.testing.assert_allclose(result, wanted + bias[:, None, None], rtol=1e-4, atol=1e-4)
    assert bench.build(network) > 0


def test_halves_are_read_at_coordinates_in_single_precision(bench, one_node):
    feed = {"x": normal(1, 1, 5, 300, dtype=np.float16), "offset": normal(1, 8, 4, 299, dtype=np.float16)}
    model = one_node("DeformConv", feed, {"w": normal(1, 1, 2, 2, dtype=np.float16)}, order=["x", "w", "offset"])
    network = bench.lower(from_proto(model, where="test"))
    (result,) = bench.run(network, feed)
    (weight,) = (onnx.numpy_helper.to_array(one) for one in model.graph.initializer)
    wide = (one.astype(np.float32) for one in (feed["x"], weight, feed["offset"]))
    np.testing.assert_allclose(result.astype(np.float32), deformed(*wide, None, 1, 1, 1, 0, 1), atol=2e-2)
    assert bench.build(network) > 0


def test_deformable_convolution_over_open_sizes_is_refused(bench, one_node):
    feed = {"x": normal(1, 1, 5, 5), "w": normal(1, 1, 2, 2), "offset": normal(1, 8, 4, 4)}
    with pytest.raises(ModelError, match="known size"):
        bench.lower(from_proto(one_node("DeformConv", feed, open_axes=[2]), where="test"))


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
