"""What a path is that is given as a model and is no ONNX file: told by its first bytes, each with the way to ONNX."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from graphpress.errors import ModelError, listed

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
"""``Path`` makes one slash of two."""
_GIVE = "give the path of an .onnx file"
_TORCH = "export it in Python: torch.onnx.export(model, example_inputs, 'model.onnx', dynamo=True)"
_UNPACK = "unpack it, and give the .onnx file inside"
_TF2ONNX = "convert it: python -m tf2onnx.convert --{} {{path}} --output model.onnx"


@dataclass(frozen=True)
class Format:
    """A kind of file that is often taken for a model.

    Args:
        magic: how its bytes begin, at ``offset``.
        called: what it is.
        fix: the way from it to an ONNX file; ``{path}`` stands for its own path.
    """

    magic: bytes
    called: str
    fix: str
    offset: int = 0


FORMATS = (
    Format(b"\x1f\x8b", "compressed with gzip", "unpack it first: gzip -dk {path}"),
    Format(b"BZh", "compressed with bzip2", "unpack it first: bzip2 -dk {path}"),
    Format(b"\xfd7zXZ\0", "compressed with xz", "unpack it first: xz -dk {path}"),
    Format(b"\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it first: zstd -d {path}"),
    Format(b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    Format(b"ustar", "a tar archive", _UNPACK, offset=257),
    Format(
        b"\x89HDF\r\n",
        "an HDF5 file, as Keras saves models",
        _TF2ONNX.format("keras"),
    ),
    Format(
        b"TFL3",
        "a TensorFlow Lite model",
        _TF2ONNX.format("tflite"),
        offset=4,
    ),
    Format(b"ORTM", "a model in ONNX Runtime's own format", "give the .onnx file that it was made from", offset=4),
    Format(b"ftrt", "a TensorRT engine", "give the .onnx file that it was built from"),
    Format(b"GGUF", "a GGUF file of llama.cpp", "export the original checkpoint to ONNX"),
    Format(b"\x93NUMPY", "an array of NumPy", _GIVE),
    Format(b"<?xml", "an XML file, as OpenVINO describes models with", "give the .onnx file that it was made from"),
    Format(b"version https://git-lfs", "a Git LFS pointer, not the file itself", "fetch it: git lfs pull"),
)
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_HEAD_BYTES = 512


def model_file(path: str | os.PathLike[str]) -> Path:
    """The path, of a file that may be an ONNX model.

    Raises:
        ModelError: there is no such file, or it is something else; the message says what, and how to get on.
    """
    file = Path(path)
    if file.is_dir():
        what, fix = _folder(file)
    elif not file.exists():
        what, fix = _absent(os.fspath(path))
    elif not file.is_file():
        what, fix = "not a file", _GIVE
    else:
        called, fix = _other_format(file)
        what = called and f"is no ONNX model, but {called}"
    if what:
        raise ModelError(what, where=str(path), fix=fix.replace("{path}", str(path)))
    return file


def _absent(text: str) -> tuple[str, str]:
    if _URL.match(text):
        return "is a URL, and nothing is downloaded", "download the file first, and give its path"
    return "no such model file", _GIVE


def _folder(folder: Path) -> tuple[str, str]:
    """What kind of model lies in a folder."""
    inside = sorted(file.name for file in folder.glob("*.onnx"))
    if inside:
        return f"is a folder, in which lies {listed(inside)}", f"give {folder / inside[0]}"
    if (folder / "saved_model.pb").exists():
        return (
            "is a SavedModel of TensorFlow",
            _TF2ONNX.format("saved-model"),
        )
    if (folder / "config.json").exists():
        return "is a checkpoint of Hugging Face", "export it: optimum-cli export onnx --model {path} OUTPUT"
    return "is a folder without an .onnx file", _GIVE


def _other_format(file: Path) -> tuple[str, str]:
    """What a file is instead, and the way to ONNX; empty where it may be an ONNX model."""
    try:
        with file.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except OSError:
        return "", ""  # whoever reads it says why it cannot be read
    if not head:
        return "an empty file", "export the model again"
    if head.startswith(_ZIP):
        return _in_zip(file)
    if head.startswith(_PICKLE):
        return "a pickle, as torch.save wrote it once", _TORCH
    named = (kind for kind in FORMATS if head.startswith(kind.magic, kind.offset))
    return next(((kind.called, kind.fix) for kind in named), ("", ""))


def _in_zip(file: Path) -> tuple[str, str]:
    """Of zip archives: PyTorch's and Keras' files are some."""
    from zipfile import BadZipFile, ZipFile

    try:
        with ZipFile(file) as archive:
            names = archive.namelist()
    except (BadZipFile, OSError, ValueError):
        return "a damaged zip archive", "get it again"
    if any(name.endswith(("data.pkl", "archive_format", "models/model.json")) for name in names):
        return "saved by PyTorch", _TORCH
    if any(name.endswith("model.weights.h5") for name in names):
        return "saved by Keras", "export it in Python: model.export('model.onnx', format='onnx')"
    return "a zip archive", _UNPACK
