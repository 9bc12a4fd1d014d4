"""Codes are the truth: chosen ones are delivered as they are, or taken away with a reason."""

import numpy as np
import pytest

from graphpress.coupling import couple, remove
from graphpress.errors import ModelError
from graphpress.ir import DataType, Editor, Tensor, clone, load, save, verify
from graphpress.ir.encoding import (
    AffineEncoding,
    CodebookEncoding,
    EncodedTensor,
    codes_of,
    decode_array,
    dynamic_encoding,
    encode_array,
    encoding_of,
    invalidation_of,
    override_use,
    quantize_array,
    read_encoding,
    set_codes,
    set_encoding,
)
from graphpress.ir.encoding.encoded_tensor import packed
from graphpress.ir.qdq import materialize_qdq, unmaterializable
from graphpress.manager.contract import Context
from graphpress.observation.replay import Segment
from graphpress.passes.cleanup.cse import CommonSubexpressionElimination
from graphpress.passes.cleanup.fold_constants import FoldConstants
from graphpress.targets import load_target

GRID = AffineEncoding("int8", np.linspace(0.05, 0.1, 8), axis=1)


@pytest.fixture
def chosen(build):
    """Two products; the weight of the first has codes that are half a step or more from its floats."""
    random = np.random.default_rng(0)
    w, v = random.normal(size=(6, 8)).astype(np.float32), random.normal(size=(8, 4)).astype(np.float32)
    model = build("(float[2,6] x) => (float[2,4] y) { h = MatMul (x, w) r = Relu (h) y = MatMul (r, v) }", w=w, v=v)
    codes = quantize_array(w, GRID) + random.integers(0, 2, (6, 8)).astype(np.int8)
    set_codes(model.graph.initializers["w"], codes, GRID)
    return model, codes


def delivered_codes(model):
    """The integers that the first product reads once Q/DQ nodes are written out."""
    copy = clone(model)
    materialize_qdq(copy)
    verify(copy)
    (node,) = (node for node in copy.graph if node.op_type == "DequantizeLinear")
    return node.inputs[0].const_value.numpy()


def test_a_tensor_decodes_and_gives_its_codes_back(static_encoding):
    array = np.random.default_rng(1).normal(size=(64, 6)).astype(np.float32)
    codes = encode_array(array, static_encoding)
    tensor = EncodedTensor(packed(codes, DataType[static_encoding.dtype.upper()]), static_encoding, DataType.FLOAT)
    assert tensor.fault is None
    assert tensor.shape.numpy() == array.shape
    np.testing.assert_array_equal(tensor.numpy(), decode_array(codes, static_encoding))
    np.testing.assert_array_equal(codes_of(tensor, static_encoding), codes)
    np.testing.assert_array_equal(encode_array(tensor.numpy(), static_encoding), codes)


@pytest.mark.parametrize("dtype", ["int2", "uint2", "int4", "uint4"])
@pytest.mark.parametrize("count", [0, 1, 7, 8])
def test_codes_under_eight_bits_share_bytes(dtype, count):
    bits = int(dtype.lstrip("uint"))
    kind = DataType[dtype.upper()]
    codes = np.random.default_rng(0).integers(0, 2**bits, count).astype(np.int8).astype(kind.numpy())
    tensor = packed(codes, kind)
    assert tensor.nbytes == len(tensor.tobytes()) == -(-count * bits // 8)
    np.testing.assert_array_equal(tensor.numpy(), codes)
    assert tensor.tobytes() == Tensor(codes, kind).tobytes()


def test_they_are_delivered_as_they_are(chosen):
    model, codes = chosen
    assert (codes != quantize_array(np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32), GRID)).any()
    np.testing.assert_array_equal(delivered_codes(model), codes)


def test_they_survive_clones_files_and_passes(chosen, tmp_path):
    model, codes = chosen
    save(clone(model), tmp_path / "m.onnx")
    model = load(tmp_path / "m.onnx")
    FoldConstants().run(model, Context(load_target("cpu"), model))
    np.testing.assert_array_equal(delivered_codes(model), codes)


def test_a_replay_computes_with_them(chosen):
    """ONNX Runtime quantizes the other operand beside int8 weights: near them, and not near the rounded floats."""
    model, codes = chosen
    x = np.random.default_rng(2).normal(size=(2, 6)).astype(np.float32)
    h = Segment(model, {"x": x}, ["h"], threads=1).run({"x": x})["h"]
    rounded = quantize_array(np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32), GRID)
    near, far = (np.abs(h - x @ decode_array(which, GRID)).max() for which in (codes, rounded))
    assert near < 0.05 < far


def test_removing_positions_keeps_the_codes_of_the_others(chosen):
    model, codes = chosen
    coupling = couple(model)
    keep = np.arange(8) % 3 != 1
    remove(model, coupling, {coupling.groups[0].name: keep})
    verify(model)
    np.testing.assert_array_equal(delivered_codes(model), codes[:, keep])
    assert encoding_of(model.graph.initializers["w"]) == AffineEncoding("int8", GRID.scale[keep], axis=1)
    assert isinstance(model.graph.initializers["w"].const_value, EncodedTensor)


def test_constants_of_equal_floats_and_other_codes_are_not_merged(build):
    weights = {name: np.float32([1, 2]) for name in "abc"}
    model = build("(float[2] x) => (float[2] y) { h = Add (x, a) i = Add (h, b) y = Add (i, c) }", **weights)
    grid = AffineEncoding("int32", 1.0)
    for name, code in (("a", 2**25), ("b", 2**25 + 1), ("c", 2**25)):
        set_codes(model.graph.initializers[name], np.int32([code, 7]), grid)
    CommonSubexpressionElimination().run(model, Context(load_target("cpu"), model))
    held = {name: value.const_value.codes.numpy()[0] for name, value in model.graph.initializers.items()}
    assert held == {"a": 2**25, "b": 2**25 + 1}


def test_an_edit_of_the_floats_takes_them_away_with_the_reason(chosen):
    model, _ = chosen
    weight = model.graph.initializers["w"]
    Editor(model).set_constant(weight, weight.const_value.numpy())
    assert encoding_of(weight) is None
    assert invalidation_of(weight) == "its contents were replaced"
    with pytest.raises(ModelError, match="was quantized and then changed"):
        materialize_qdq(model)


def test_an_edit_for_one_reader_leaves_the_others_their_codes(build):
    model = build("(float[2,2] x) => (float[2,2] y) { h = MatMul (x, w) y = MatMul (h, w) }", w=np.eye(2, dtype="f"))
    set_codes(model.graph.initializers["w"], np.int8([[3, 1], [0, 3]]), AffineEncoding("int8", 0.5))
    own = Editor(model).own_constant(model.graph[1], 1, np.ones((2, 2), np.float32))
    assert invalidation_of(own) == "its contents were replaced"
    assert model.graph.initializers["w"].const_value.codes.numpy().tolist() == [[3, 1], [0, 3]]
    assert read_encoding(model.graph[0], 1) == AffineEncoding("int8", 0.5)


def test_new_codes_lift_an_invalidation(chosen):
    model, codes = chosen
    weight = model.graph.initializers["w"]
    Editor(model).set_constant(weight, weight.const_value.numpy())
    set_codes(weight, codes + 1, GRID)
    np.testing.assert_array_equal(delivered_codes(model), codes + 1)


@pytest.mark.parametrize(
    ("codes", "why"),
    [
        (np.zeros((6, 7), np.int8), r"has shape \[6, 8\], its codes \[6, 7\]"),
        (np.full((6, 8), 128), "codes that int8 does not hold"),
        (np.full((6, 8), 0.5), "codes that int8 does not hold"),
    ],
)
def test_codes_that_do_not_fit_are_refused(chosen, codes, why):
    model, before = chosen
    with pytest.raises(ModelError, match=why):
        set_codes(model.graph.initializers["w"], codes, GRID)
    np.testing.assert_array_equal(model.graph.initializers["w"].const_value.codes.numpy(), before)


def test_only_float_initializers_take_codes(chosen, node_of):
    with pytest.raises(ModelError, match="no initializer of a float type"):
        set_codes(node_of(chosen[0], "h").outputs[0], np.zeros((2, 8), np.int8), GRID)


# -- what backends cannot say yet -----------------------------------------------------------------------------


def test_what_no_backend_materializes_is_an_error(network, unspoken_encoding):
    set_encoding(network.graph.initializers["w"], unspoken_encoding)
    verify(network)
    assert [refusal.where for refusal in unmaterializable(network)] == ["w"]
    with pytest.raises(ModelError, match=f"no backend materializes the encoding {unspoken_encoding.label} of 'w'"):
        materialize_qdq(network)


def test_a_dynamic_activation_finds_its_range_at_run_time(network):
    override_use(network.graph[0], 0, dynamic_encoding("uint8"))
    verify(network)
    assert unmaterializable(network, dynamic=True) == []
    assert materialize_qdq(network) == 1
    verify(network)
    assert [node.op_type for node in network.graph][:2] == ["DynamicQuantizeLinear", "DequantizeLinear"]


def test_a_backend_without_kernels_for_dynamic_ranges_refuses_them(network):
    override_use(network.graph[0], 0, dynamic_encoding("uint8"))
    assert [(refusal.where, refusal.why) for refusal in unmaterializable(network)] == [
        ("x", "no kernel finds the range of its encoding dynamic-uint8")
    ]


@pytest.mark.parametrize("encoding", [dynamic_encoding("int8"), dynamic_encoding("uint8", axis=0)])
def test_a_dynamic_range_of_rows_or_signed_codes_has_no_operator(network, encoding):
    override_use(network.graph[0], 0, encoding)
    assert [refusal.where for refusal in unmaterializable(network, dynamic=True)] == ["x"]
    with pytest.raises(ModelError, match=f"no backend materializes the encoding {encoding.label} of 'x'"):
        materialize_qdq(network)


def test_the_nearest_entry_is_chosen_number_by_number():
    encoding = CodebookEncoding("uint4", np.array([-1.0, -0.25, 0.0, 0.5, 2.0]), np.array([1.0, 2.0]), axis=0)
    array = np.array([[-3.0, -0.2, 0.26, 5.0], [-3.0, -0.2, 0.26, 5.0]], np.float32)
    assert encode_array(array, encoding).tolist() == [[0, 1, 3, 4], [0, 2, 2, 4]]
    expected = [[-1.0, -0.25, 0.5, 2.0], [-2.0, 0.0, 0.0, 4.0]]
    np.testing.assert_array_equal(decode_array(encode_array(array, encoding), encoding), expected)


def test_vectors_stand_for_tiles_of_the_last_axes():
    table = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    encoding = CodebookEncoding("uint2", table)
    codes = np.array([[[0, 1], [2, 3]]], np.uint8)
    array = decode_array(codes, encoding)
    assert array.shape == (1, 4, 6)
    np.testing.assert_array_equal(array[0, 2:, :3], table[2])
    np.testing.assert_array_equal(encode_array(array, encoding), codes)
    assert encoding.bits == 2 / 6
