"""Windows over space, resampling and padding with attributes at random: what ONNX Runtime computes, we do."""

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from graphpress import torch_bridge
from graphpress.errors import DataError, ModelError
from graphpress.ir import from_proto
from graphpress.runtime import Session

torch = pytest.importorskip("torch", reason="the bridge needs PyTorch: pip install 'graphpress[torch]'")

FUZZ = settings(deadline=None, max_examples=60, derandomize=True)


def check(op_type, x, constants=(), outputs=1, opset=21, tolerance=1e-5, **attributes):
    """One node on ``x``, its other operands constant (None: absent)."""
    names = ["x", *("" if array is None else f"c{index}" for index, array in enumerate(constants))]
    results = [f"y{index}" for index in range(outputs)]
    node = helper.make_node(
        op_type, names, results, **{key: setting for key, setting in attributes.items() if setting is not None}
    )
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, x.shape)],
        [helper.make_value_info(name, onnx.TypeProto()) for name in results],
        [numpy_helper.from_array(array, f"c{index}") for index, array in enumerate(constants) if array is not None],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    try:
        wanted = Session(from_proto(onnx.shape_inference.infer_shapes(proto)), optimization="none").run({"x": x})
    except (ModelError, DataError, ValueError):
        assume(False)
        raise
    got = torch_bridge.to_module(from_proto(proto)).module({"x": torch.from_numpy(x)})
    for name, expected in wanted.items():
        assume(expected.size)
        np.testing.assert_allclose(got[name].detach().numpy(), expected, rtol=tolerance, atol=tolerance, err_msg=name)


def numbers(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


@st.composite
def windows(draw, most_padding=2):
    """Rank and attributes of a window."""
    rank = draw(st.integers(1, 3))

    def each(low, high, count=rank):
        return draw(st.lists(st.integers(low, high), min_size=count, max_size=count))

    auto = draw(st.sampled_from(["NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    attributes = {"kernel_shape": each(1, 3), "strides": each(1, 3), "auto_pad": auto}
    if auto == "NOTSET":
        attributes["pads"] = each(0, most_padding, 2 * rank)
        attributes["dilations"] = each(1, 2)
    return rank, attributes


@FUZZ
@given(window=windows(), groups=st.sampled_from([1, 2]), size=st.integers(5, 9))
def test_convolution(window, groups, size):
    rank, attributes = window
    x, weight = numbers(2, 4, *[size] * rank), numbers(6, 4 // groups, *attributes["kernel_shape"])
    check("Conv", x, [weight, numbers(6)], group=groups, tolerance=1e-4, **attributes)


@FUZZ
@given(window=windows(), groups=st.sampled_from([1, 2]), size=st.integers(3, 6), extra=st.booleans())
def test_transposed_convolution(window, groups, size, extra):
    rank, attributes = window
    x, weight = numbers(2, 4, *[size] * rank), numbers(4, 3, *attributes["kernel_shape"])
    more = [stride - 1 for stride in attributes["strides"]] if extra else None
    bias = numbers(3 * groups)
    check("ConvTranspose", x, [weight, bias], group=groups, output_padding=more, tolerance=1e-4, **attributes)


@FUZZ
@given(window=windows(), wanted=st.integers(0, 2), size=st.integers(3, 6))
def test_transposed_convolution_of_a_size(window, wanted, size):
    rank, attributes = window
    attributes = {key: setting for key, setting in attributes.items() if key not in ("auto_pad", "pads")}
    x, weight = numbers(1, 2, *[size] * rank), numbers(2, 3, *attributes["kernel_shape"])
    dilations = attributes.get("dilations", [1] * rank)
    whole = [
        stride * (size - 1) + (kernel - 1) * dilation + 1
        for stride, kernel, dilation in zip(attributes["strides"], attributes["kernel_shape"], dilations, strict=True)
    ]
    shape = [max(size - wanted, 1) for size in whole]
    check("ConvTranspose", x, [weight], output_shape=shape, tolerance=1e-4, **attributes)


@FUZZ
@given(
    window=windows(1), ceil=st.integers(0, 1), size=st.integers(5, 9), places=st.booleans(), column=st.integers(0, 1)
)
def test_max_pool(window, ceil, size, places, column):
    rank, attributes = window
    assume(all(kernel > 1 for kernel in attributes["kernel_shape"]))
    attributes = attributes | ({"storage_order": column} if places else {})
    check("MaxPool", numbers(2, 3, *[size] * rank), ceil_mode=ceil, outputs=1 + places, **attributes)


@FUZZ
@given(window=windows(1), ceil=st.integers(0, 1), size=st.integers(5, 9), counted=st.integers(0, 1))
def test_average_pool(window, ceil, size, counted):
    rank, attributes = window
    assume(all(kernel > 1 for kernel in attributes["kernel_shape"]))
    check("AveragePool", numbers(2, 3, *[size] * rank), ceil_mode=ceil, count_include_pad=counted, **attributes)


@FUZZ
@given(window=windows(1), size=st.integers(5, 9), order=st.integers(1, 3))
def test_lp_pool(window, size, order):
    rank, attributes = window
    assume(all(kernel > 1 for kernel in attributes["kernel_shape"]))
    check("LpPool", numbers(2, 3, *[size] * rank), p=order, **attributes)


@FUZZ
@given(
    mode=st.sampled_from(["nearest", "linear", "cubic"]),
    coordinates=st.sampled_from(
        ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"]
    ),
    rounding=st.sampled_from(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]),
    sizes=st.tuples(*[st.integers(1, 9)] * 4),
    by_scale=st.booleans(),
)
def test_resize(mode, coordinates, rounding, sizes, by_scale):
    if mode == "nearest":  # here ties fall on either side, as the last bit of a coordinate has it
        assume(coordinates != "half_pixel_symmetric" and rounding != "round_prefer_ceil")
    (h, w, new_h, new_w), scales = sizes, None
    shape = np.array([1, 2, new_h, new_w])
    if by_scale:
        scales, shape = np.array([1, 1, new_h / h, new_w / w], np.float32), None
    check(
        "Resize", numbers(1, 2, h, w), [None, scales, shape], mode=mode,
        coordinate_transformation_mode=coordinates, nearest_mode=rounding, tolerance=1e-4,
    )  # fmt: skip


@FUZZ
@given(
    mode=st.sampled_from(["constant", "edge", "reflect", "wrap"]),
    pads=st.lists(st.integers(-2, 4), min_size=4, max_size=4),
    axes=st.sampled_from([[0, 1], [-1, 0]]),
)
def test_pad(mode, pads, axes):
    if mode != "constant":
        pads = [max(pad, 0) for pad in pads]
    check("Pad", numbers(4, 5), [np.array(pads), np.float32(3.5), np.array(axes)], mode=mode)
