"""A path that is no ONNX file gets a sentence of its own: what it is, and how to get on."""

import bz2
import gzip
import lzma
import tarfile
import zipfile

import numpy as np
import onnx
import pytest
from onnx import helper

from graphpress import ir
from graphpress.errors import ModelError


def refusal(path):
    with pytest.raises(ModelError) as caught:
        ir.load(path)
    return f"{caught.value.what}; {caught.value.fix}"


@pytest.fixture
def model():
    info = helper.make_tensor_value_info
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [info("x", 1, [1])], [info("y", 1, [1])])
    return helper.make_model(graph).SerializeToString()


@pytest.mark.parametrize(
    ("pack", "words"),
    [
        (gzip.compress, "gzip -dk"),
        (bz2.compress, "bzip2 -dk"),
        (lzma.compress, "xz -dk"),
        (lambda _: b"\x1c\0\0\0TFL3", "--tflite"),
        (lambda _: b"\x1c\0\0\0ORTM", "ONNX Runtime's"),
        (lambda _: b"ftrt\0", "TensorRT engine"),
        (lambda _: b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (lambda _: b"\x80\x02}q\x00.", "torch.onnx.export"),
        (lambda _: b"", "an empty file"),
        (lambda _: b"PK\x03\x04", "damaged"),
    ],
)
def test_what_a_file_is_shows_in_its_first_bytes_whatever_its_name(tmp_path, model, pack, words):
    (tmp_path / "model.onnx").write_bytes(pack(model))
    assert words in refusal(tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("member", "words"),
    [("m/data.pkl", "saved by PyTorch"), ("model.weights.h5", "saved by Keras"), ("model.onnx", "a zip archive")],
)
def test_archives_are_known_by_what_is_in_them(tmp_path, model, member, words):
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        archive.writestr(member, model)
    assert words in refusal(tmp_path / "model.pt")


def test_a_tar_archive(tmp_path, model):
    (tmp_path / "model.onnx").write_bytes(model)
    with tarfile.open(tmp_path / "model.tar", "w") as archive:
        archive.add(tmp_path / "model.onnx")
    assert "a tar archive" in refusal(tmp_path / "model.tar")


def test_an_array_is_no_model(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros(3))
    assert "array of NumPy" in refusal(tmp_path / "x.npy")


def test_what_pytorch_saves(tmp_path):
    torch = pytest.importorskip("torch")
    for zipped in (True, False):
        torch.save({"w": torch.zeros(2)}, tmp_path / "model.pt", _use_new_zipfile_serialization=zipped)
        assert "torch.onnx.export" in refusal(tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("net.onnx", "net.onnx"),
        ("saved_model.pb", "--saved-model"),
        ("config.json", "optimum"),
        ("x", "without"),
    ],
)
def test_a_folder_is_known_by_what_is_in_it(tmp_path, name, words):
    (tmp_path / name).write_bytes(b"")
    assert words in refusal(tmp_path)


@pytest.mark.parametrize("url", ["https://example.org/model.onnx", "s3://bucket/model.onnx", "hf://org/model"])
def test_nothing_is_downloaded(url):
    assert "is a URL" in refusal(url)


def test_what_no_format_is_known_of_is_read_as_onnx(tmp_path, model):
    assert "no such model file" in refusal(tmp_path / "absent.onnx")
    (tmp_path / "model.bin").write_bytes(model)
    assert ir.load(tmp_path / "model.bin").graph.outputs
    (tmp_path / "torn.onnx").write_bytes(model[:-3])
    assert "not a readable ONNX file" in refusal(tmp_path / "torn.onnx")
    assert onnx.load_from_string(model)
