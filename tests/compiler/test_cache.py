"""The cache by content."""

import pytest

from graphpress.cache import ContentCache
from graphpress.errors import UsageError


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


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be made"):
        ContentCache(tmp_path / "file" / "cache")
