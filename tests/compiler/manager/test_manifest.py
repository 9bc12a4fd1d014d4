import hashlib
import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphpress.errors import UsageError
from graphpress.ir import load
from graphpress.manager.manifest import (
    Manifest,
    changed_inputs,
    file_record,
    file_records,
    model_records,
    read_manifest,
    write_manifest,
)


@pytest.fixture
def model_with_external_data(tmp_path):
    weight = numpy_helper.from_array(np.arange(4096, dtype=np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4096])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4096])],
        [weight],
    )
    path = tmp_path / "net.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path, save_as_external_data=True, location="net.bin", size_threshold=0)
    return path


@pytest.fixture
def manifest(model_with_external_data):
    return Manifest(
        recipe="fold_constants,quantize{percentile=99.9}",
        target="cpu",
        backend="onnxruntime",
        seed=3,
        threads=2,
        options={"max_drop": 0.01, "exclude": None, "input_shape": ["x=1x3"]},
        decisions={"fuse_swish": {"pays": False, "ratio": 1.2}},
        inputs=model_records(model_with_external_data, load(model_with_external_data)),
        data={"calibration": "abc"},
    )


def test_reads_back_what_was_written(manifest, tmp_path):
    write_manifest(manifest, tmp_path / "manifest.json")
    assert read_manifest(tmp_path / "manifest.json") == manifest


def test_the_same_manifest_gives_the_same_bytes(manifest, tmp_path):
    write_manifest(manifest, tmp_path / "a.json")
    write_manifest(replace(manifest), tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_versions_and_machine_are_filled_in(manifest):
    assert manifest.versions.keys() >= {"graphpress", "onnx", "onnx-ir", "onnxruntime"}
    assert manifest.machine.keys() >= {"python", "platform", "features"}


def test_the_digest_is_that_of_the_bytes(tmp_path):
    file = tmp_path / "f"
    file.write_bytes(b"x" * (3 << 20))
    record = file_record(file)
    assert (record.name, record.bytes) == ("f", 3 << 20)
    assert record.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_external_data_counts_as_input(manifest):
    assert [record.name for record in manifest.inputs] == ["net.onnx", "net.bin"]


def test_folders_are_walked_and_sorted(tmp_path):
    (tmp_path / "engine").mkdir()
    for name in ("model.onnx", "engine/b", "engine/a"):
        (tmp_path / name).write_text(name)
    records = file_records([tmp_path / "model.onnx", tmp_path / "engine"], tmp_path)
    assert [record.name for record in records] == ["engine/a", "engine/b", "model.onnx"]


def test_says_which_inputs_changed(manifest, model_with_external_data):
    path = model_with_external_data
    assert changed_inputs(manifest, model_records(path, load(path))) == []
    renamed = path.rename(path.with_name("other.onnx"))
    assert changed_inputs(manifest, model_records(renamed, load(renamed))) == []
    data = path.with_name("net.bin")
    data.write_bytes(bytes([1]) + data.read_bytes()[1:])
    assert changed_inputs(manifest, model_records(renamed, load(renamed))) == ["net.bin"]
    assert changed_inputs(manifest, []) == ["net.onnx", "net.bin"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"manifest_version": 2}, "version 2"),
        ({"recipe": None}, "recipe"),
        ({"decisions": []}, "decisions"),
        ({"inputs": [{"name": "x"}]}, r"inputs\.0\.sha256"),
        ({"seed": "many"}, "seed"),
    ],
)
def test_a_damaged_manifest_is_refused_by_field(manifest, tmp_path, change, message):
    path = tmp_path / "manifest.json"
    write_manifest(manifest, path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UsageError, match=message):
        read_manifest(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe\x00"])
def test_what_is_no_manifest_is_refused(tmp_path, content):
    path = tmp_path / "manifest.json"
    path.write_bytes(content)
    with pytest.raises(UsageError):
        read_manifest(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        read_manifest(tmp_path / "nowhere.json")
