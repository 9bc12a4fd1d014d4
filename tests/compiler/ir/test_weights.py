"""Large weights stay in their file, and are written one by one; the model is the same as if it had been read whole."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from graphpress.errors import ModelError
from graphpress.ir import DataType, clone, digest, external, files, load, save, serialize, tensors, weights
from graphpress.ir.encoding import AffineEncoding, set_encoding
from graphpress.ir.external import MappedTensor
from graphpress.ir.files import read_message
from graphpress.ir.message_facts import MessageFacts
from graphpress.ir.weights import StoredTensor, write_apart
from graphpress.models import build as build_family


@pytest.fixture
def large(monkeypatch):
    """As if everything from four kilobytes on were large."""
    monkeypatch.setattr(files, "LARGE_FILE_BYTES", 1 << 12)
    for module, name in [(weights, "LARGE_FILE_BYTES"), (weights, "LARGE_BYTES"), (external, "LARGE_BYTES")]:
        monkeypatch.setattr(module, name, 1 << 12)


def stored(model):
    return {name for name, value in model.graph.initializers.items() if isinstance(value.const_value, StoredTensor)}


@pytest.mark.parametrize("family", ["resnet", "bert", "densenet", "lstm"])
def test_a_model_is_the_same_as_if_it_had_been_read_whole(tmp_path, large, monkeypatch, family):
    (file,) = save(build_family(family), tmp_path / "m.onnx")
    left = load(file)
    assert stored(left)
    monkeypatch.setattr(weights, "LARGE_FILE_BYTES", 1 << 40)
    whole = load(file)
    assert not stored(whole)
    assert serialize(left) == serialize(whole) == file.read_bytes()


def test_small_weights_and_files_are_read_whole(model, tmp_path, large, monkeypatch):
    (file,) = save(model, tmp_path / "m.onnx")
    assert stored(load(file)) == {"w", "v"}
    monkeypatch.setattr(weights, "LARGE_FILE_BYTES", 1 << 20)
    assert not stored(load(file))


def test_what_is_written_one_by_one_is_what_is_written_whole(model, tmp_path, large):
    for name, source in [("memory", model), ("file", load(save(model, tmp_path / "m.onnx")[0]))]:
        (file,) = save(source, tmp_path / f"{name}.onnx")
        assert file.read_bytes() == serialize(model)
        assert digest(source) == digest(load(file))


def test_annotated_weights_are_written_one_by_one_too(model, tmp_path, large):
    encoded = clone(model)
    set_encoding(encoded.graph.initializers["w"], AffineEncoding("int8", np.array(0.1)))
    (file,) = save(encoded, tmp_path / "m.onnx")
    assert file.read_bytes() == serialize(encoded)


def test_the_file_may_be_replaced_by_the_model_itself(model, tmp_path, large, weight):
    (file,) = save(model, tmp_path / "m.onnx")
    save(load(file), file)
    np.testing.assert_array_equal(load(file).graph.initializers["w"].const_value.numpy(), weight)


@pytest.mark.parametrize("change", ["cut", "written", "replaced"])
def test_a_file_that_changes_is_not_read_on(model, tmp_path, large, change):
    (file,) = save(model, tmp_path / "m.onnx")
    opened, content = load(file), file.read_bytes()
    if change == "cut":
        file.write_bytes(content[:-100])
    elif change == "written":
        file.write_bytes(content[:-100] + bytes(100))
    else:
        (tmp_path / "other").write_bytes(content)
        (tmp_path / "other").replace(file)
    with pytest.raises(ModelError, match="was changed"):
        opened.graph.initializers["w"].const_value.numpy()


@pytest.mark.parametrize(
    "dtype", ["INT4", "UINT4", "FLOAT8E4M3FN", "BFLOAT16", "FLOAT16", "INT64", "BOOL", "COMPLEX64"]
)
def test_every_type_is_read_as_it_was(build, tmp_path, large, dtype):
    kind = DataType[dtype]
    count = 1 << 15
    raw = np.random.default_rng(0).integers(0, 2, count * int(kind.bitwidth) // 8, np.uint8).tobytes()
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 21]> g (float[4] x) => (float[4] y) { y = Abs (x) }'
    )
    proto.graph.initializer.append(TensorProto(name="w", data_type=int(kind), dims=[count], raw_data=raw))
    file = tmp_path / "m.onnx"
    file.write_bytes(proto.SerializeToString())
    tensor = load(file).graph.initializers["w"].const_value
    assert isinstance(tensor, StoredTensor)
    assert tensor.tobytes() == raw
    np.testing.assert_array_equal(tensor.numpy(), numpy_helper.to_array(proto.graph.initializer[0]))
    assert tensor.numpy().flags.aligned


@pytest.mark.parametrize("dims", [[64, 63], [64, 65], [-64, -64]])
def test_contents_that_do_not_fit_their_shape_are_refused(model, tmp_path, large, dims):
    proto = onnx.load_from_string(serialize(model))
    del proto.graph.initializer[0].dims[:]
    proto.graph.initializer[0].dims.extend(dims)
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(ModelError) as raised:
        load(tmp_path / "m.onnx")
    assert "w" in raised.value.where


@pytest.mark.parametrize("content", ["noise", "cut"])
def test_a_file_that_is_no_model_is_refused_as_ever(model, tmp_path, large, content):
    (file,) = save(model, tmp_path / "m.onnx")
    file.write_bytes(bytes(range(256)) * 64 if content == "noise" else file.read_bytes()[:-10])
    with pytest.raises(ModelError, match="not a readable ONNX file"):
        load(file)
    assert write_apart(file, tmp_path, 2) is None


def test_external_data_is_mapped_for_as_long_as_its_array_is_held(model, tmp_path, large, monkeypatch, weight):
    monkeypatch.setattr(files, "PROTOBUF_LIMIT", 1000)
    save(model, tmp_path / "m.onnx")
    tensor = load(tmp_path / "m.onnx").graph.initializers["w"].const_value
    assert isinstance(tensor, MappedTensor)
    np.testing.assert_array_equal(tensor.numpy(), weight)
    np.testing.assert_array_equal(np.asarray(tensor), weight)
    assert tensor.tobytes() == weight.tobytes()
    assert tensor.raw is None


# -- apart ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["bert", "lstm"])
def test_a_model_written_apart_is_the_same(tmp_path, large, family):
    (file,) = save(build_family(family), tmp_path / "m.onnx")
    (tmp_path / "apart").mkdir()
    facts = MessageFacts.of(read_message(file))
    apart = write_apart(file, tmp_path / "apart", facts.external)
    assert apart.stat().st_size < facts.weight_bytes / 2
    assert contents(load(apart)) == contents(load(file))
    assert all(tensor.offset % 4096 == 0 for tensor in tensors(load(apart)) if isinstance(tensor, MappedTensor))


def test_a_model_with_weights_elsewhere_stays_where_it_is(model, tmp_path, large):
    (file,) = save(model, tmp_path / "m.onnx")
    proto = onnx.load(file)
    external = proto.graph.initializer.add(name="e", dims=[2], data_type=TensorProto.FLOAT)
    external.data_location = TensorProto.EXTERNAL
    external.external_data.add(key="location", value="e.data")
    file.write_bytes(proto.SerializeToString())
    assert write_apart(file, tmp_path, MessageFacts.of(read_message(file)).external) is None


def test_a_model_can_be_saved_apart_whatever_its_size(model, tmp_path, weight):
    assert [file.name for file in save(model, tmp_path / "m.onnx")] == ["m.onnx"]
    names = [file.name for file in save(model, tmp_path / "m.onnx", apart=1 << 12)]
    assert names == ["m.onnx", "m.onnx.data"]
    assert (tmp_path / "m.onnx.data").stat().st_size == 2 * weight.nbytes
    assert contents(load(tmp_path / "m.onnx")) == contents(model)


def contents(model):
    return {name: value.const_value.tobytes() for name, value in model.graph.initializers.items()}
