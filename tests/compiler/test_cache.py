"""The cache by content."""

import os

import pytest

from graphpress import cache as caches
from graphpress.cache import ContentCache


def test_keeps_values_by_their_whole_key(tmp_path):
    cache = ContentCache(tmp_path / "cache")
    cache.put({"x": [1.5, None]}, "a", "b")
    assert ContentCache(tmp_path / "cache").get("a", "b") == {"x": [1.5, None]}
    assert cache.get("ab") is None
    assert cache.get("a") is None


def test_without_a_folder_nothing_is_kept():
    cache = ContentCache(None)
    cache.put(1, "a")
    assert cache.get("a") is None


def test_a_damaged_entry_counts_as_absent(tmp_path):
    cache = ContentCache(tmp_path)
    cache.put(1, "a")
    (entry,) = tmp_path.iterdir()
    entry.write_text("{")
    assert cache.get("a") is None


def test_a_folder_that_cannot_be_made_is_said_and_done_without(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "cache"):
        cache = ContentCache(folder)
        assert str(folder) in cache.fault
        cache.put(1, "a")
        assert cache.get("a") is None
        assert cache.folder is None


def test_an_entry_that_cannot_be_written_or_read_ends_the_cache(tmp_path):
    cache = ContentCache(tmp_path)
    cache.put(1, "a")
    assert not cache.fault
    (entry,) = tmp_path.iterdir()
    entry.unlink()
    entry.mkdir()
    cache.put(2, "a")
    assert "Is a directory" in cache.fault
    assert [file.name for file in tmp_path.iterdir()] == [entry.name], "nothing is left aside"
    again = ContentCache(tmp_path)
    assert again.get("a") is None
    assert "Is a directory" in again.fault
    assert again.get("a") is None


def test_a_deeply_nested_entry_counts_as_absent(tmp_path):
    cache = ContentCache(tmp_path)
    cache.put(1, "a")
    (entry,) = tmp_path.iterdir()
    entry.write_text(100_000 * "[")
    assert cache.get("a") is None
    assert not cache.fault


@pytest.mark.parametrize(("values", "notes"), [([], 0), ([1], 1)])
def test_an_interrupt_tells_what_stays(tmp_path, values, notes):
    cache = ContentCache(tmp_path)
    for value in values:
        cache.put(value, "key")
    with pytest.raises(KeyboardInterrupt) as stop, cache.told():
        raise KeyboardInterrupt
    assert len(getattr(stop.value, "__notes__", [])) == notes


def test_bytes_are_kept_beside_values(tmp_path):
    cache = ContentCache(tmp_path)
    cache.put_bytes({("a",): b"object", ("b",): b""})
    cache.put(1, "a")
    again = ContentCache(tmp_path)
    assert (again.get_bytes("a"), again.get_bytes("b"), again.get_bytes("c")) == (b"object", b"", None)
    assert again.get("a") == 1


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:-1] + b"?", lambda _: b""])
def test_bytes_that_were_damaged_count_as_absent(tmp_path, damage):
    cache = ContentCache(tmp_path)
    cache.put_bytes({("a",): b"object"})
    (entry,) = tmp_path.iterdir()
    entry.write_bytes(damage(entry.read_bytes()))
    assert cache.get_bytes("a") is None
    cache.put_bytes({("a",): b"object"})
    assert cache.get_bytes("a") == b"object"


def test_bytes_that_nobody_asked_for_longest_make_room(tmp_path, monkeypatch):
    monkeypatch.setattr(caches, "ROOM", 1000)
    cache = ContentCache(tmp_path)
    cache.put(1, "value")
    for name in "abc":
        cache.put_bytes({(name,): bytes(400)})
        for file in tmp_path.glob("*.bin"):
            os.utime(file, ns=(file.stat().st_atime_ns - 10**9, file.stat().st_mtime_ns - 10**9))
        cache.get_bytes("a")
    assert [cache.get_bytes(name) is None for name in "abc"] == [False, True, False]
    assert cache.get("value") == 1
