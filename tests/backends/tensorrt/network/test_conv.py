"""Convolutions lowered to TensorRT compute what ONNX Runtime computes, and build."""

from __future__ import annotations

import itertools

import numpy as np
import onnx.numpy_helper
import pytest

from graphpress import ir
from graphpress.backends.tensorrt.network.context import LoweringContext
from graphpress.backends.tensorrt.network.scope import Construction, Scope
from graphpress.backends.tensorrt.network.windows import assign
from graphpress.errors import ModelError
from graphpress.ir import from_proto

RANDOM = np.random.default_rng(0)


def normal(*shape, dtype=np.float32):
    return RANDOM.standard_normal(shape).astype(dtype)


def layers(network, kind):
    found = [network.get_layer(index) for index in range(network.num_layers)]
    return [layer for layer in found if layer.type.name == kind]


# -- Conv ---------------------------------------------------------------------------------------------------------

CONVOLUTIONS = {
    "plain": ((1, 3, 8, 8), (4, 3, 3, 3), {}),
    "strided, padded": ((2, 3, 9, 8), (4, 3, 3, 3), {"strides": [2, 1], "pads": [1, 0, 2, 1]}),
    "dilated": ((1, 3, 9, 9), (4, 3, 3, 3), {"dilations": [2, 2], "pads": [2, 2, 2, 2]}),
    "grouped": ((1, 4, 8, 8), (6, 2, 3, 3), {"group": 2}),
    "depthwise": ((1, 4, 8, 8), (4, 1, 3, 3), {"group": 4, "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "same, lower": ((1, 3, 7, 8), (4, 3, 2, 4), {"auto_pad": "SAME_LOWER", "strides": [2, 3]}),
    "valid": ((1, 3, 7, 8), (4, 3, 2, 4), {"auto_pad": "VALID"}),
    "1-D": ((2, 3, 9), (4, 3, 3), {"strides": [2], "pads": [1, 2], "dilations": [2]}),
    "1-D, grouped": ((1, 4, 9), (4, 2, 3), {"group": 2}),
    "3-D": ((1, 2, 5, 6, 7), (3, 2, 2, 3, 2), {"strides": [1, 2, 1], "pads": [0, 1, 0, 1, 1, 1]}),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("form", ["weights", "weights and bias", "run-time kernel", "open batch"])
def test_convolutions(bench, one_node, name, form):
    shape, kernel, attributes = CONVOLUTIONS[name]
    x, weight, bias = normal(*shape), normal(*kernel), normal(kernel[0])
    if form == "run-time kernel":
        model = one_node("Conv", {"x": x, "w": weight, "b": bias}, **attributes)
    elif form == "weights":
        model = one_node("Conv", {"x": x}, {"w": weight}, **attributes)
    else:
        axes = [0] if form == "open batch" else []
        model = one_node("Conv", {"x": x}, {"w": weight, "b": bias}, open_axes=axes, **attributes)
    bench.agrees(model, {"x": x, "w": weight, "b": bias} if form == "run-time kernel" else {"x": x})


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER"])
def test_same_padding_over_open_sizes_is_left_to_tensorrt(bench, one_node, auto_pad):
    x, weight = normal(1, 2, 7, 8), normal(3, 2, 3, 4)
    model = one_node("Conv", {"x": x}, {"w": weight}, open_axes=[2, 3], auto_pad=auto_pad, strides=[2, 2])
    bench.agrees(model, {"x": x})


def test_halves_keep_half_weights(bench, one_node):
    x, weight, bias = (normal(*shape, dtype=np.float16) for shape in ((1, 3, 8, 8), (4, 3, 3, 3), (4,)))
    network = bench.lower(from_proto(one_node("Conv", {"x": x}, {"w": weight, "b": bias}), where="test"))
    (layer,) = layers(network, "CONVOLUTION")
    layer.__class__ = bench.trt.IConvolutionLayer
    assert (layer.kernel.dtype, layer.bias.dtype) == (np.float16, np.float16)
    assert network.get_output(0).dtype.name == "HALF"


def test_a_property_that_tensorrt_drops_is_an_error(bench):
    network = bench.builder.create_network(0)
    x = network.add_input("x", bench.trt.float32, (1, 2, 8, 8))
    place = Construction(bench.trt, network, True, lambda graph, scope: None)
    call = LoweringContext(ir.Node("", "ConvTranspose", [], name="the node"), Scope(place))
    layer = call.add("deconvolution_nd", x, 2, (3, 3), call.weights(normal(2, 2, 3, 3)))
    assign(call, layer, "post_padding", (1, 1))
    with pytest.raises(ModelError, match=r"does not take \(-1, 0\) as post padding"):
        assign(call, layer, "post_padding", (-1, 0))


@pytest.mark.parametrize("attributes", [{"strides": [2]}, {"dilations": [1, 0]}, {"pads": [1, 1]}])
def test_windows_that_make_no_sense_are_refused(bench, one_node, attributes):
    model = one_node("Conv", {"x": normal(1, 1, 8, 8)}, {"w": normal(1, 1, 3, 3)}, **attributes)
    with pytest.raises(ModelError, match="do not fit 2 spatial axes") as raised:
        bench.lower(from_proto(model, where="test"))
    assert "the node" in raised.value.where


def test_operands_that_make_no_sense_are_refused(bench, one_node):
    model = one_node("Einsum", {"a": normal(2, 3), "b": normal(3, 4)}, equation="ij")
    with pytest.raises(ModelError, match="do not fit together") as raised:
        bench.lower(from_proto(model, where="test"))
    assert "checker" in raised.value.fix


def test_four_spatial_axes_are_refused(bench, one_node):
    model = one_node("Conv", {"x": normal(1, 1, 4, 4, 4, 4)}, {"w": normal(1, 1, 3, 3, 3, 3)})
    with pytest.raises(ModelError, match="spatial axes"):
        bench.lower(from_proto(model, where="test"))


# -- ConvTranspose ------------------------------------------------------------------------------------------------

TRANSPOSED = {
    "plain": ((1, 4, 5, 5), (4, 3, 3, 3), {}),
    "strided": ((2, 4, 5, 4), (4, 3, 3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "output padding within the padding": (
        (1, 4, 5, 5),
        (4, 3, 3, 3),
        {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]},
    ),
    "output padding beyond it": ((1, 4, 5, 5), (4, 3, 3, 3), {"strides": [3, 2], "output_padding": [2, 1]}),
    "uneven": ((1, 4, 5, 5), (4, 3, 3, 4), {"strides": [2, 2], "pads": [0, 1, 2, 0]}),
    "grouped": ((1, 4, 5, 5), (4, 2, 3, 3), {"group": 2, "strides": [2, 2]}),
    "dilated": ((1, 4, 5, 5), (4, 3, 3, 3), {"dilations": [2, 2]}),
    "strided and dilated": ((1, 4, 5, 5), (4, 3, 3, 2), {"strides": [2, 3], "dilations": [2, 2], "pads": [1, 0, 0, 1]}),
    "same": ((1, 4, 5, 5), (4, 3, 3, 3), {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    "output shape": ((1, 4, 5, 5), (4, 3, 3, 3), {"strides": [2, 2], "output_shape": [10, 9]}),
    "1-D": ((1, 4, 5), (4, 3, 3), {"strides": [2], "pads": [1, 0]}),
    "3-D": ((1, 2, 3, 4, 3), (2, 3, 2, 3, 2), {"strides": [2, 1, 2]}),
}


@pytest.mark.parametrize("name", TRANSPOSED)
@pytest.mark.parametrize("open_batch", [False, True])
def test_transposed_convolutions(bench, one_node, name, open_batch):
    shape, kernel, attributes = TRANSPOSED[name]
    x, weight, bias = normal(*shape), normal(*kernel), normal(kernel[1] * attributes.get("group", 1))
    axes = [0] if open_batch else []
    bench.agrees(one_node("ConvTranspose", {"x": x}, {"w": weight, "b": bias}, open_axes=axes, **attributes), {"x": x})


def test_same_transposed_convolution_of_an_open_size(bench, one_node):
    x, weight = normal(1, 2, 5, 6), normal(2, 3, 3, 3)
    model = one_node("ConvTranspose", {"x": x}, {"w": weight}, open_axes=[2, 3], strides=[2, 2], auto_pad="SAME_LOWER")
    bench.agrees(model, {"x": x})


def test_output_shape_of_an_open_size_is_refused(bench, one_node):
    model = one_node(
        "ConvTranspose", {"x": normal(1, 2, 5, 6)}, {"w": normal(2, 3, 3, 3)}, open_axes=[2], output_shape=[9, 9]
    )
    with pytest.raises(ModelError, match="output_shape"):
        bench.lower(from_proto(model, where="test"))


# -- engines ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op_type", "shape", "kernel", "attributes"),
    [
        ("Conv", (1, 4, 8, 8), (4, 2, 3, 3), {"group": 2, "auto_pad": "SAME_UPPER"}),
        ("Conv", (1, 3, 9), (4, 3, 3), {}),
        ("Conv", (1, 2, 5, 6, 7), (3, 2, 2, 3, 2), {}),
        (
            "ConvTranspose",
            (1, 4, 5, 5),
            (4, 3, 3, 2),
            {"strides": [2, 3], "dilations": [2, 2], "output_padding": [1, 1]},
        ),
    ],
)
def test_engines_of_convolutions(bench, one_node, op_type, shape, kernel, attributes):
    x, weight = normal(*shape), normal(*kernel)
    model = one_node(op_type, {"x": x}, {"w": weight}, open_axes=[0], **attributes)
    assert bench.build(bench.lower(from_proto(model, where="test"))) > 0


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
