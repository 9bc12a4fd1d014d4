"""Data that is small as a file and large when it is read: refused by what it declares, before it is read."""

import gzip
import io
import struct
import zipfile

import numpy as np
import pytest
from PIL import Image

from graphpress.data import bounds, load_dataset
from graphpress.errors import DataError
from graphpress.runtime import InputSpec

INPUTS = [InputSpec("x", np.dtype(np.float32), ("N", 4))]
IMAGES = [InputSpec("x", np.dtype(np.float32), ("N", 3, 8, 8))]


def first_feed(path, inputs=INPUTS):
    return next(iter(load_dataset(str(path), inputs).evaluation))


@pytest.fixture
def suspicious(monkeypatch):
    """Small sizes are looked at, so that tests need no large ones."""
    monkeypatch.setattr(bounds, "UNSUSPICIOUS_BYTES", 1 << 12)


@pytest.fixture
def little_memory(monkeypatch):
    monkeypatch.setattr(bounds, "NOTICED_BYTES", 0)
    monkeypatch.setattr(bounds, "available_memory", lambda: 1 << 12)


def npz(path, header=None, content=b"", **arrays):
    """An archive; with ``header`` one array ``x`` whose header says something else than its content."""
    np.savez_compressed(path, **arrays)
    if header is not None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", np.lib.format.magic(1, 0) + struct.pack("<H", len(header)) + header + content)
    return path


def says(shape, descr="<f4"):
    return f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()


def test_an_archive_that_expands_beyond_all_data(tmp_path, suspicious):
    path = npz(tmp_path / "d.npz", x=np.zeros((100_000, 4), np.float32))
    with pytest.raises(DataError, match=r"d\.npz:x: expands from [\d,]+ bytes to 0\.0 GB, more than 200-fold"):
        first_feed(path)


def test_zeros_of_an_ordinary_size_are_data(tmp_path):
    path = npz(tmp_path / "d.npz", x=np.zeros((100_000, 4), np.float32))
    assert first_feed(path)["x"].shape == (32, 4)


def test_nobody_asks_for_the_memory_of_a_small_image(monkeypatch):
    monkeypatch.setattr(bounds, "available_memory", None)
    bounds.check_room(1 << 20, "image.jpg")


def test_an_array_that_does_not_fit_into_memory(tmp_path, little_memory):
    path = npz(tmp_path / "d.npz", x=np.random.default_rng(0).standard_normal((2000, 4)).astype(np.float32))
    with pytest.raises(DataError, match=r"d\.npz:x: takes 0\.0 GB of memory, and 0\.0 GB are available"):
        first_feed(path)


@pytest.mark.parametrize("shape", [(10**12, 4), (1000, 10**9), (3, 4)])
def test_a_header_that_promises_more_than_there_is(tmp_path, shape):
    path = npz(tmp_path / "d.npz", says(shape), bytes(32))
    with pytest.raises(DataError, match=r"is truncated|cannot be read"):
        first_feed(path)


@pytest.mark.parametrize(
    "header", [b"{" * 60_000, says((2, 4), "|O"), b"\xff" * 100, says("(2, 4)" + " " * 30_000)], ids=range(4)
)
def test_headers_that_are_none(tmp_path, header):
    path = npz(tmp_path / "d.npz", header, bytes(32))
    with pytest.raises(DataError, match=r"cannot be read|never unpickled"):
        first_feed(path)


def test_an_idx_file_that_promises_more_than_there_is(tmp_path):
    content = struct.pack(">HBBII", 0, 13, 2, 2**31, 2**31) + bytes(64)
    for name, write in (("d.idx", lambda file: file), ("d.idx.gz", gzip.compress)):
        (tmp_path / name).write_bytes(write(content))
        with pytest.raises(DataError, match="expands from"):
            first_feed(tmp_path / name)


def test_a_compressed_idx_file_that_expands_beyond_all_data(tmp_path, suspicious):
    content = struct.pack(">HBBII", 0, 13, 2, 100_000, 4) + bytes(1_600_000)
    (tmp_path / "d.idx.gz").write_bytes(gzip.compress(content))
    with pytest.raises(DataError, match="expands from"):
        first_feed(tmp_path / "d.idx.gz")


def test_a_table_that_does_not_fit_into_memory(tmp_path, little_memory):
    (tmp_path / "d.tsv").write_text("a\tb\n" + "1\t2\n" * 1000)
    (tmp_path / "d.yaml").write_text("evaluation: {source: d.tsv, inputs: {x: [a, b, a, b]}}")
    with pytest.raises(DataError, match=r"d\.tsv: takes .* of memory"):
        first_feed(tmp_path / "d.yaml")


# -- images -----------------------------------------------------------------------------------------------------


def picture(size):
    content = io.BytesIO()
    Image.new("RGB", size).save(content, "PNG")
    return content.getvalue()


@pytest.mark.parametrize("size", [(15, 15), (40, 40)], ids=["above the limit", "far above"])
def test_an_image_of_too_many_pixels(tmp_path, monkeypatch, recwarn, size):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(picture(size))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    with pytest.raises(DataError, match=r"a\.png: is not a readable image: Image size .* exceeds limit of"):
        first_feed(tmp_path / "images", IMAGES)
    assert not recwarn.list


def test_an_image_file_that_expands_beyond_all_images(tmp_path, suspicious):
    with zipfile.ZipFile(tmp_path / "d.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", picture((8, 8)) + bytes(4_000_000))
    with pytest.raises(DataError, match=r"a\.png: expands from"):
        first_feed(tmp_path / "d.zip", IMAGES)


# -- data files -------------------------------------------------------------------------------------------------


def test_aliases_of_aliases(tmp_path):
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
    (tmp_path / "d.yaml").write_text("\n".join([*lines, "evaluation: {source: x.npz, slice: *i}"]))
    with pytest.raises(DataError, match="holds more than 100,000 values, with its aliases written out"):
        first_feed(tmp_path / "d.yaml")


def test_an_alias_of_itself(tmp_path):
    (tmp_path / "d.yaml").write_text("evaluation: &a\n  source: x.npz\n  slice: [*a]\n")
    with pytest.raises(DataError, match="holds more than"):
        first_feed(tmp_path / "d.yaml")


def test_aliases_that_somebody_wrote(tmp_path):
    npz(tmp_path / "d.npz", x=np.ones((4, 4), np.float32))
    (tmp_path / "d.yaml").write_text("evaluation: &part {source: d.npz}\ncalibration: *part\n")
    assert first_feed(tmp_path / "d.yaml")["x"].shape == (4, 4)
