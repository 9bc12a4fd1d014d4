"""The arithmetic of quantization is ONNX Runtime's, bit for bit."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper, numpy_helper

from graphpress.ir import DataType, Tensor, from_proto
from graphpress.ir.encoding import (
    FLOAT8,
    AffineEncoding,
    EncodedTensor,
    codes_of,
    dequantize_array,
    fits,
    integer_bounds,
    integer_dtype,
    quantize_array,
    representable,
    representable_like,
)
from graphpress.runtime import Session

DTYPES = ["int8", "uint8", "int4", "uint4", "int16", "uint16"]
FLOATS = st.floats(-3e4, 3e4, width=32, allow_subnormal=False)
SCALES = st.floats(2**-10, 1024, width=32)


@st.composite
def cases(draw, dtype, grain):
    """An array and an encoding that fits it."""
    # The runtime wants more than one scale where there are blocks.
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=2 if grain == "block" else 1, max_side=6))
    axis = None if grain == "tensor" else draw(st.integers(0, len(shape) - 1))
    block, scale_shape = 0, (-1,)
    if grain == "channel":
        count = shape[axis]
    elif grain == "block":
        block = draw(st.integers(1, shape[axis] - 1))
        scale_shape = tuple(-(-size // block) if index == axis else size for index, size in enumerate(shape))
        count = int(np.prod(scale_shape))
    else:
        count = 1
    low, high = integer_bounds(dtype)
    scale = draw(st.lists(SCALES, min_size=count, max_size=count))
    offsets = st.just(0) if dtype == FLOAT8 else st.integers(low, high)
    zero_point = draw(st.lists(offsets, min_size=count, max_size=count))
    scale, zero_point = (np.array(numbers).reshape(scale_shape) for numbers in (scale, zero_point))
    encoding = AffineEncoding(dtype, scale, zero_point, axis, block)
    return draw(hnp.arrays(np.float32, shape, elements=FLOATS)), encoding


def through_onnxruntime(array, encoding):
    """Integers and reals that QuantizeLinear and DequantizeLinear compute."""
    kind = getattr(TensorProto, encoding.dtype.upper())
    zero = np.array(encoding.zero_point).astype(helper.tensor_dtype_to_np_dtype(kind))
    weights = {"s": encoding.scale, "z": zero}
    attributes = {} if encoding.axis is None else {"axis": encoding.axis}
    attributes |= {"block_size": encoding.block} if encoding.block else {}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], **attributes),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], **attributes),
        helper.make_node("Cast", ["q"], ["i"], to=TensorProto.FLOAT),
    ]
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape) for name in "xy"]
    integers = helper.make_tensor_value_info("i", TensorProto.FLOAT, array.shape)
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "g", infos[:1], [infos[1], integers], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    outputs = Session(from_proto(model), optimization="none").run({"x": array})
    return outputs["i"], outputs["y"]


@pytest.mark.parametrize("dtype", [*DTYPES, FLOAT8])
@pytest.mark.parametrize("grain", ["tensor", "channel", "block"])
def test_equals_onnxruntime_bit_for_bit(dtype, grain):
    @settings(max_examples=25, deadline=None)
    @given(cases(dtype, grain))
    def check(case):
        array, encoding = case
        assert fits(encoding, array.shape)
        integers, reals = through_onnxruntime(array, encoding)
        ours = quantize_array(array, encoding)
        assert ours.dtype == integer_dtype(dtype)
        np.testing.assert_array_equal(ours.astype(np.float32), integers)
        assert dequantize_array(ours, encoding).tobytes() == reals.tobytes()

    check()


def test_halves_go_to_the_even_integer_and_extremes_saturate():
    encoding = AffineEncoding("int8", (1.0,), (0,))
    array = np.array([0.5, 1.5, 2.5, -0.5, 1e30, -1e30, np.inf, -np.inf], np.float32)
    assert quantize_array(array, encoding).tolist() == [0, 2, 2, 0, 127, -128, 127, -128]


def test_eight_bit_floats_round_to_the_even_mantissa_and_saturate():
    encoding = AffineEncoding(FLOAT8, (1.0,), (0,))
    array = np.array([17, 19, 2.0**-10, 3 * 2.0**-10, 464, 1e30, -np.inf], np.float32)
    numbers = quantize_array(array, encoding)
    assert numbers.dtype == ml_dtypes.float8_e4m3fn
    assert numbers.astype(float).tolist() == [16, 20, 0, 2.0**-8, 448, 448, -448]
    assert encoding.representable == (-448, 448)


def test_a_float_constant_in_eight_bits_gives_its_numbers_back():
    encoding = AffineEncoding(FLOAT8, (0.25, 0.5), (0, 0), axis=1)
    numbers = np.arange(-8, 8, 0.5).reshape(-1, 2).astype(ml_dtypes.float8_e4m3fn)
    tensor = EncodedTensor(Tensor(numbers), encoding, DataType.FLOAT)
    np.testing.assert_array_equal(tensor.numpy(), numbers.astype(np.float32) * np.float32([0.25, 0.5]))
    np.testing.assert_array_equal(codes_of(Tensor(tensor.numpy()), encoding), numbers)


def test_new_scales_stay_in_half_precision_where_the_old_ones_were():
    new = np.array([0.3, 7e-9])
    np.testing.assert_array_equal(representable_like(new, np.array([0.5, 0.25])), representable(new, "float16"))
    np.testing.assert_array_equal(representable_like(new, np.array([0.1, 0.25])), np.float32(new))
    np.testing.assert_array_equal(representable_like(new, np.array([1e30])), np.float32(new))


def test_int32_keeps_what_a_float_could_not_hold():
    encoding = AffineEncoding("int32", (1e-6,), (0,), derived=True)
    integers = np.array([2**31 - 1, -(2**31), 123456789], np.int32)
    tensor = EncodedTensor(Tensor(integers), encoding, DataType.FLOAT)
    assert codes_of(tensor, encoding).tolist() == integers.tolist()


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_encoded_tensor_decodes_and_gives_its_integers_back(dtype):
    low, high = integer_bounds(dtype)
    encoding = AffineEncoding(dtype, (0.1, 0.3), (low, high), axis=1)
    integers = np.random.default_rng(0).integers(low, high + 1, (50, 2)).astype(integer_dtype(dtype))
    tensor = EncodedTensor(Tensor(integers), encoding, DataType.FLOAT)
    assert (tuple(tensor.shape), tensor.dtype) == ((50, 2), DataType.FLOAT)
    np.testing.assert_array_equal(tensor.numpy(), dequantize_array(integers, encoding))
    np.testing.assert_array_equal(codes_of(tensor, encoding), integers)
    np.testing.assert_array_equal(codes_of(Tensor(tensor.numpy()), encoding), integers)  # also after saving and loading
    other = AffineEncoding("int8", (0.5,), (0,))
    np.testing.assert_array_equal(codes_of(tensor, other), quantize_array(tensor.numpy(), other))


@pytest.mark.parametrize(
    ("encoding", "shape", "answer"),
    [
        (AffineEncoding("int8", (1.0,), (0,)), (), True),
        (AffineEncoding("int8", (1.0, 2.0), (0, 0)), (2,), False),
        (AffineEncoding("int8", (1.0, 2.0), (0, 0), axis=1), (3, 2), True),
        (AffineEncoding("int8", (1.0, 2.0), (0, 0), axis=-1), (3, 2), True),
        (AffineEncoding("int8", (1.0, 2.0), (0, 0), axis=0), (3, 2), False),
        (AffineEncoding("int8", (1.0, 2.0), (0, 0), axis=2), (3, 2), False),
        (AffineEncoding("int8", ((1.0,), (2.0,)), axis=0, block=2), (3, 1), True),
        (AffineEncoding("int8", ((1.0,), (2.0,)), axis=0, block=2), (5, 1), False),
    ],
)
def test_whether_an_encoding_fits_a_shape(encoding, shape, answer):
    assert fits(encoding, shape) is answer
