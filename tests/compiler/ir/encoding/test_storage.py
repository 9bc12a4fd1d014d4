"""Encodings in files: every kind goes and comes back, constants as the codes that they are, numbers once."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from graphpress.cli.main import main
from graphpress.errors import ModelError
from graphpress.ir import DataType, Editor, clone, digest, from_proto, load, save, serialize, to_proto, verify
from graphpress.ir.encoding import (
    AffineEncoding,
    CodebookEncoding,
    EncodedTensor,
    encode_array,
    encoding_of,
    invalidation_of,
    output_encoding,
    override_output,
    override_use,
    overrides_of,
    read_encoding,
    request_compute,
    set_codes,
    set_encoding,
)
from graphpress.ir.encoding.decoders import decoder_of
from graphpress.ir.printer import print_model
from graphpress.ir.skeleton import to_skeleton
from graphpress.runtime import Session


def through_file(model, tmp_path):
    save(model, tmp_path / "m.onnx")
    return load(tmp_path / "m.onnx")


def through_message(model, tmp_path):
    return from_proto(to_proto(model))


def through_skeleton(model, tmp_path):
    proto, held = to_skeleton(model)
    return from_proto(proto, held=held)


WAYS = [through_file, through_message, through_skeleton, lambda model, tmp_path: clone(model)]
ways = pytest.mark.parametrize("way", WAYS, ids=["file", "message", "skeleton", "clone"])


@ways
def test_values_uses_and_outputs_keep_every_kind(network, encoding, way, tmp_path, node_of):
    node = node_of(network, "h")
    request_compute(node, "int8")
    set_encoding(network.graph.initializers["w"], encoding)
    override_use(node, 1, encoding)
    override_use(node, 0, "float")
    if encoding.misfit((3, 6)) is None:
        set_encoding(network.graph.outputs[0], encoding)
        override_output(network.graph.outputs[0], "float")
    before = print_model(network)
    again = way(network, tmp_path)
    verify(again)
    node = node_of(again, "h")
    assert encoding_of(again.graph.initializers["w"]) == encoding
    assert overrides_of(node) == {0: "float", 1: encoding}
    assert read_encoding(node, 0) is None
    assert encoding_of(again.graph.outputs[0]) == encoding_of(network.graph.outputs[0])
    assert output_encoding(again.graph.outputs[0]) is None
    assert print_model(again) == before
    assert print_model(network) == before
    assert list(again.graph.initializers) == ["w", "b"]


@ways
def test_constants_keep_their_codes(network, static_encoding, way, tmp_path):
    weight = network.graph.initializers["w"]
    random = np.random.default_rng(3)
    nearest = encode_array(weight.const_value.numpy(), static_encoding)
    chosen = np.where(random.random(nearest.shape) < 0.5, nearest, np.roll(nearest, 1))  # not the nearest ones
    set_codes(weight, chosen, static_encoding)
    floats, before = weight.const_value.numpy(), print_model(network)
    again = way(network, tmp_path)
    verify(again)
    tensor = again.graph.initializers["w"].const_value
    assert isinstance(tensor, EncodedTensor)
    assert tensor.encoding == static_encoding == encoding_of(again.graph.initializers["w"])
    np.testing.assert_array_equal(tensor.codes.numpy(), chosen)
    assert tensor.numpy().tobytes() == floats.tobytes()
    assert print_model(again) == before
    assert list(again.graph.initializers) == ["w", "b"]


def test_a_file_that_is_saved_again_is_the_same(network, static_encoding, tmp_path):
    weight = network.graph.initializers["w"]
    set_codes(weight, encode_array(weight.const_value.numpy(), static_encoding), static_encoding)
    again = through_file(network, tmp_path)
    assert serialize(again) == serialize(network) == (tmp_path / "m.onnx").read_bytes()
    assert digest(again) == digest(network)


def test_a_digest_sees_scales_and_codes(network):
    weight = network.graph.initializers["w"]
    digests = {digest(network)}
    for scale, code in ((0.5, 1), (0.25, 1), (0.25, 2)):
        set_codes(weight, np.full((64, 6), code, np.int8), AffineEncoding("int8", scale))
        digests.add(digest(network))
    assert len(digests) == 4


def test_the_file_holds_codes_and_not_the_floats(network, static_encoding, tmp_path):
    """Wherever an operator of the operator set decodes them; and the file computes what the model does."""
    weight = network.graph.initializers["w"]
    set_codes(weight, encode_array(weight.const_value.numpy(), static_encoding), static_encoding)
    save(network, tmp_path / "m.onnx")
    proto = onnx.load(tmp_path / "m.onnx")
    types = {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
    opset = network.graph.opset_imports[""]
    decoder = decoder_of(static_encoding, DataType.FLOAT, opset)
    assert ("w" in types) == (decoder is None)
    assert [node.op_type for node in proto.graph.node] == [*([decoder.op_type] if decoder else []), "MatMul", "Add"]
    feed = {"x": np.random.default_rng(1).normal(size=(3, 64)).astype(np.float32)}
    if static_encoding.dtype not in ("int2", "uint2", "bfloat16"):  # for which ONNX Runtime has no kernels
        onnx.checker.check_model(proto, full_check=True)
        expected = Session(network, optimization="none").run(feed)["y"]
        actual = Session(tmp_path / "m.onnx", optimization="none").run(feed)["y"]
        np.testing.assert_array_equal(actual, expected)


def test_every_content_is_stored_once(network, node_of, tmp_path):
    scale = np.linspace(1, 2, 6)
    set_encoding(network.graph.initializers["w"], AffineEncoding("int8", scale, axis=1))
    override_use(node_of(network, "h"), 1, AffineEncoding("uint8", scale, 128, axis=1))
    override_use(node_of(network, "h"), 0, AffineEncoding("uint8", 0.5, 3))
    override_use(node_of(network, "y"), 0, AffineEncoding("uint8", 0.5, 3, imported=True))
    sizes = Counter(tuple(tensor.dims) for tensor in to_proto(network).graph.initializer)
    # one list of scales, one list of zero-points (128), one scale, one zero-point; and what was there
    assert sizes == {(64, 6): 1, (6,): 3, (): 2}


def test_reserved_names_are_free_ones(network, tmp_path):
    weight = network.graph.initializers["b"]
    del network.graph.initializers["b"]
    weight.name = "graphpress.numbers/0"
    network.graph.register_initializer(weight)
    set_codes(network.graph.initializers["w"], np.ones((64, 6), np.int8), AffineEncoding("int8", 0.5))
    again = through_file(network, tmp_path)
    assert set(again.graph.initializers) == {"w", "graphpress.numbers/0"}
    np.testing.assert_array_equal(again.graph.initializers["w"].const_value.numpy(), np.full((64, 6), 0.5, np.float32))


def test_constants_of_subgraphs(build, tmp_path, value_of):
    text = """(bool c, float[2] x) => (float[2] y) {
        y = If (c) <then_branch = t () => (float[2] p) { p = Mul (x, k) },
                    else_branch = e () => (float[2] q) { q = Neg (x) }>
    }"""
    model = build(text, k=np.float32([1, 2]))
    branch = model.graph[0].attributes["then_branch"].as_graph()
    weight = model.graph.initializers.pop("k")
    branch.register_initializer(weight)
    encoding = AffineEncoding("int8", (0.5, 0.25), axis=0)
    set_codes(weight, np.int8([3, 5]), encoding)
    again = through_file(model, tmp_path)
    verify(again)
    tensor = value_of(again, "k").const_value
    assert tensor.codes.numpy().tolist() == [3, 5]
    assert encoding_of(value_of(again, "k")) == encoding
    assert not again.graph.initializers


def test_a_constant_that_is_a_graph_output(build, tmp_path):
    model = build("(float[2] x) => (float[2] y, float[2] w) { y = Add (x, w) }", w=np.float32([1, 2]))
    set_codes(model.graph.initializers["w"], np.int8([3, 5]), AffineEncoding("int8", 0.5))
    again = through_file(model, tmp_path)
    verify(again)
    assert again.graph.outputs[1] is again.graph.initializers["w"]
    assert again.graph.outputs[1].const_value.codes.numpy().tolist() == [3, 5]


def test_external_codes_are_mapped_and_a_model_may_replace_its_own_file(network, tmp_path, monkeypatch):
    monkeypatch.setattr("graphpress.ir.files.MAPPED_BYTES", 0)
    encoding = AffineEncoding("int8", np.linspace(1, 2, 384).reshape(64, 6), axis=0, block=1)
    if network.graph.opset_imports[""] < 21:
        encoding = AffineEncoding("int8", 0.5)
    codes = np.random.default_rng(0).integers(-128, 127, (64, 6)).astype(np.int8)
    set_codes(network.graph.initializers["w"], codes, encoding)
    files = save(network, tmp_path / "m.onnx")
    assert [file.name for file in files] == ["m.onnx", "m.onnx.data"]
    again = load(tmp_path / "m.onnx")
    for _ in range(2):
        save(again, tmp_path / "m.onnx")
        np.testing.assert_array_equal(again.graph.initializers["w"].const_value.codes.numpy(), codes)
        assert encoding_of(again.graph.initializers["w"]) == encoding
    np.testing.assert_array_equal(load(tmp_path / "m.onnx").graph.initializers["w"].const_value.codes.numpy(), codes)


def test_floats_that_another_tool_changed_beside_their_codes_are_no_longer_encoded(network):
    encoding = CodebookEncoding("uint4", np.linspace(-1, 1, 16))
    set_codes(network.graph.initializers["w"], np.full((64, 6), 3, np.uint8), encoding)
    proto = to_proto(network)
    (tensor,) = (tensor for tensor in proto.graph.initializer if tensor.name == "w")
    tensor.raw_data = np.full((64, 6), 0.1, np.float32).tobytes()
    weight = from_proto(proto).graph.initializers["w"]
    assert not isinstance(weight.const_value, EncodedTensor)
    assert encoding_of(weight) is None
    assert "changed in the file" in invalidation_of(weight)


def test_codes_of_a_half_precision_weight(build, tmp_path):
    model = build("(float16[2] x) => (float16[2] y) { y = Add (x, w) }", opset=21, w=np.float16([1, 2]))
    set_codes(model.graph.initializers["w"], np.int8([3, 5]), AffineEncoding("int8", 0.3))
    tensor = through_file(model, tmp_path).graph.initializers["w"].const_value
    assert (tensor.dtype, tensor.codes.numpy().tolist()) == (DataType.FLOAT16, [3, 5])


VERSION_1 = {
    '{"kind":"quantized","dtype":"uint8","scale":[0.1],"zero_point":[3],"shared":"r"}': AffineEncoding("uint8", 0.1, 3),
    '{"kind":"quantized","dtype":"int8","scale":[0.1,0.2],"zero_point":[0,-5],"axis":1,"pinned":true}': AffineEncoding(
        "int8", (0.1, 0.2), (0, -5), axis=1, imported=True
    ),
    '{"kind":"quantized","dtype":"int4","scale":[0.1,0.2],"zero_point":[0,0],"axis":0,"block":2,"scale_shape":[1,2]}': (
        AffineEncoding("int4", ((0.1, 0.2),), axis=0, block=2)
    ),
}


@pytest.mark.parametrize(("text", "encoding"), VERSION_1.items())
def test_annotations_of_version_1_are_read(build, text, encoding):
    model = build("(float[2,2] x) => (float[2,2] y) { y = MatMul (x, w) }", w=np.eye(2, dtype=np.float32))
    model.graph.initializers["w"].metadata_props["graphpress.encoding.v1"] = text
    model.graph[0].metadata_props["graphpress.use.v1.1"] = text
    model.graph[0].metadata_props["graphpress.use.v1.0"] = "float"
    again = from_proto(to_proto(model))
    assert encoding_of(again.graph.initializers["w"]) == encoding
    assert overrides_of(again.graph[0]) == {0: "float", 1: encoding}


def test_annotations_of_a_later_version_are_an_error(build):
    model = build("(float[2] x) => (float[2] y) { y = Neg (x) }")
    model.graph.inputs[0].metadata_props["graphpress.encoding.v3"] = "{}"
    with pytest.raises(ModelError, match="another version"):
        from_proto(to_proto(model))


def test_inspect_shows_every_kind(network, encoding, tmp_path, capsys):
    set_encoding(network.graph.initializers["w"], encoding)
    save(network, tmp_path / "m.onnx")
    assert main(["inspect", str(tmp_path / "m.onnx")]) == 0
    assert f"h = MatMul(x, w:{encoding.label})" in capsys.readouterr().out


# -- large ones -----------------------------------------------------------------------------------------------

LOAD_AND_SAVE = """
import sys
from pathlib import Path
from graphpress.ir import load, save, verify
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024
before, file = peak(), Path(sys.argv[1])
model = load(file)
verify(model)
save(model, file.with_name("again.onnx"))
print(peak() - before)
"""


@pytest.fixture(scope="module")
def large_file(tmp_path_factory):
    """Three weights of 4096×4096 in int4 blocks of 32: 30 MiB."""
    names = ["x", "a", "b", "y"]
    nodes = [helper.make_node("MatMul", [names[index], f"w{index}"], [names[index + 1]]) for index in range(3)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4096]) for name in ("x", "y")]
    weights = [helper.make_tensor(f"w{index}", TensorProto.FLOAT, [1], [0.0]) for index in range(3)]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    model = from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))
    random, edit = np.random.default_rng(0), Editor(model)
    for value in model.graph.initializers.values():
        edit.set_constant(value, np.broadcast_to(np.float32(0), (4096, 4096)))
        encoding = AffineEncoding("int4", random.uniform(0.1, 1, (128, 4096)), axis=0, block=32)
        set_codes(value, random.integers(-8, 8, (4096, 4096), np.int8), encoding)
    file = tmp_path_factory.mktemp("large") / "large.onnx"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("graphpress.ir.files.MAPPED_BYTES", 0)
        save(model, file)
    return file


def test_a_large_file_holds_codes_and_scales_and_no_more(large_file):
    size = sum(file.stat().st_size for file in large_file.parent.glob("large.onnx*"))
    codes, scales = 4096 * 4096 // 2, 128 * 4096 * 4
    assert 0 <= size - 3 * (codes + scales) < 4096


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
def test_a_large_model_is_loaded_and_saved_in_little_more_than_its_size(large_file):
    done = subprocess.run([sys.executable, "-c", LOAD_AND_SAVE, large_file], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1.3 * large_file.with_name("large.onnx.data").stat().st_size
    assert large_file.with_name("again.onnx.data").read_bytes() == large_file.with_name("large.onnx.data").read_bytes()
