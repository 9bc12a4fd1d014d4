"""Large arrays of an .npz, read row by row: what is read is what reading it whole gives, and little is in memory."""

import hashlib
import tracemalloc
import zipfile

import numpy as np
import pytest

from graphpress.data import npz
from graphpress.data.load import load_dataset
from graphpress.data.npz import NpzSource, npz_source
from graphpress.data.sources import ArraySource
from graphpress.errors import DataError
from graphpress.runtime import InputSpec

SAVE = {"stored": np.savez, "compressed": np.savez_compressed}


@pytest.fixture
def by_rows(monkeypatch):
    """As if every array were large."""
    monkeypatch.setattr(npz, "WHOLE_BYTES", 0)


@pytest.fixture(params=SAVE)
def save(request):
    return SAVE[request.param]


def digest(source):
    taken = hashlib.sha256()
    source.hash_into(taken)
    return taken.hexdigest()


ARRAYS = {
    "floats": np.random.default_rng(0).normal(size=(50, 3, 4)).astype(np.float32),
    "bytes": np.arange(200, dtype=np.uint8).reshape(100, 2),
    "big_endian": np.arange(60, dtype=">i4").reshape(20, 3),
    "flags": np.arange(40) % 3 == 0,
    "fields": np.zeros(10, [("a", np.int32), ("b", np.float64, 2)]),
}


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("indices", [range(1000), range(3, 1000, 7), [5, 5, 0, 8, 2]])
def test_rows_are_those_of_the_array(tmp_path, by_rows, save, name, indices):
    save(tmp_path / "x.npz", **ARRAYS)
    array = ARRAYS[name]
    source = npz_source(tmp_path / "x.npz", name)
    whole = ArraySource(array, source.where)
    indices = [index for index in indices if index < len(array)]
    assert isinstance(source, NpzSource)
    assert (len(source), source.place(1), digest(source)) == (len(whole), whole.place(1), digest(whole))
    rows, expected = list(source.records(indices)), list(whole.records(indices))
    assert [row.dtype for row in rows] == [row.dtype for row in expected]
    np.testing.assert_array_equal(np.array(rows), np.array(expected))


@pytest.mark.parametrize("name", ["columns", "nothing", "texts", "missing", "scalar"])
def test_what_has_no_rows_in_the_file_is_read_as_ever(tmp_path, by_rows, save, name):
    arrays = {"columns": np.asfortranarray(np.arange(12.0).reshape(3, 4)), "scalar": 1.0}
    arrays |= {"nothing": np.zeros((0, 3)), "texts": np.array(["a", "bc"])}
    save(tmp_path / "x.npz", **arrays)
    if name in ("missing", "scalar"):
        with pytest.raises(DataError, match="has no array" if name == "missing" else "single value"):
            npz_source(tmp_path / "x.npz", name)
    else:
        np.testing.assert_array_equal(npz_source(tmp_path / "x.npz", name).array, arrays[name])


def test_python_objects_are_not_unpickled(tmp_path, by_rows, save):
    save(tmp_path / "x.npz", x=np.array([{}, {}], object))
    with pytest.raises(DataError, match="never unpickled"):
        npz_source(tmp_path / "x.npz", "x")


@pytest.mark.parametrize("damage", ["content", "header", "place"])
def test_damage_is_one_error(tmp_path, by_rows, save, damage):
    file = tmp_path / "x.npz"
    save(file, x=np.random.default_rng(0).integers(0, 256, (64, 100), np.uint8))
    content = bytearray(file.read_bytes())
    start = {"content": 3000, "header": content.index(b"NUMPY") if save is np.savez else 60, "place": 0}[damage]
    content[start : start + 20] = bytes(20)
    file.write_bytes(content)
    with pytest.raises(DataError) as raised:
        digest(npz_source(file, "x"))
    assert str(file) in str(raised.value)


def test_a_header_that_promises_more_rows_is_refused(tmp_path, by_rows):
    file = tmp_path / "x.npz"
    np.savez(file, x=np.zeros((64, 100), np.uint8), y=np.zeros((64, 100), np.uint8))
    file.write_bytes(file.read_bytes().replace(b"(64, 100)", b"(99, 100)", 1))
    with pytest.raises(DataError):
        list(npz_source(file, "x").records([98]))


def test_an_entry_with_a_comment_and_other_entries_before_it(tmp_path, by_rows):
    file = tmp_path / "x.npz"
    np.savez(tmp_path / "y.npz", y=ARRAYS["floats"])
    entry = zipfile.ZipInfo("x.npy")
    entry.extra, entry.comment = b"\xfe\xca\x04\x00abcd", b"mine"
    with zipfile.ZipFile(tmp_path / "y.npz") as source, zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", b"some text")
        archive.writestr(entry, source.read("y.npy"))
    np.testing.assert_array_equal(list(npz_source(file, "x").records(range(50))), ARRAYS["floats"])


def test_with_a_limit_little_is_in_memory(tmp_path, save):
    """A sixth of the array at most, opened, hashed and read."""
    file = tmp_path / "x.npz"
    save(file, x=np.arange(24_000_000, dtype=np.uint16).astype(np.uint8).reshape(24_000, 1000))
    tracemalloc.start()
    try:
        data = load_dataset(file, [InputSpec("x", np.dtype(np.uint8), ("N", 1000))], limit=20)
        data.fingerprints()
        feeds = [feed["x"] for feed in data.evaluation]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(map(len, feeds)) == 20
    assert peak < 24_000_000 / 6
