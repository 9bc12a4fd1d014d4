"""Objects: compiled once, equal bytes, and what the cache holds is looked at before it is believed."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import pytest

pytest.importorskip("tvm", reason="needs graphpress[tvm]")

from graphpress.backends.tvm import object_files
from graphpress.backends.tvm.codegen.isa import ISAS
from graphpress.backends.tvm.kernels.kernel import symbol
from graphpress.backends.tvm.kernels.map import Map
from graphpress.backends.tvm.kernels.plane import Plane
from graphpress.backends.tvm.kernels.stages import Clip, Destination
from graphpress.backends.tvm.object_files import write_objects
from graphpress.cache import NO_CACHE, ContentCache
from graphpress.forked import CrashError

ISA = ISAS["avx2"]
PLANE = Plane(8, 1, 1, 8)
KERNELS = {
    symbol(kernel, ISA): kernel
    for high in range(3)
    for kernel in [Map(PLANE, Destination(PLANE), 8, (Clip(0.0, high),))]
}


@pytest.fixture
def compiled(monkeypatch, tmp_path) -> Callable[[], list[str]]:
    """Which kernels were compiled since it was called last; in a copy of this process, so that files tell."""
    log = tmp_path / "compiled"
    log.mkdir()
    original = object_files.write_object

    def write_object(functions, isa, path):
        (log / path.stem).touch()
        original(functions, isa, path)

    def names() -> list[str]:
        files = sorted(log.iterdir())
        for file in files:
            file.unlink()
        return [file.name for file in files]

    monkeypatch.setattr(object_files, "write_object", write_object)
    return names


def contents(folder, cache, kernels=KERNELS, isa=ISA) -> dict[str, bytes]:
    """The objects by name."""
    folder.mkdir()
    return {file.stem: file.read_bytes() for file in write_objects(kernels, isa, folder, cache)}


def test_what_was_compiled_before_is_not_compiled_again(tmp_path, compiled):
    cache = ContentCache(tmp_path / "cache")
    first = contents(tmp_path / "1", cache, dict(list(KERNELS.items())[:2]))
    assert compiled() == sorted(first)
    second = contents(tmp_path / "2", cache)
    assert compiled() == [list(KERNELS)[2]]
    assert first.items() <= second.items()
    assert list(second) == list(KERNELS)


def test_without_a_cache_the_bytes_are_the_same(tmp_path):
    kept = contents(tmp_path / "kept", ContentCache(tmp_path / "cache"))
    assert contents(tmp_path / "1", NO_CACHE) == contents(tmp_path / "2", NO_CACHE) == kept


def test_a_damaged_object_is_compiled_again(tmp_path, compiled):
    cache = ContentCache(tmp_path / "cache")
    whole = contents(tmp_path / "1", cache)
    for entry in (tmp_path / "cache").glob("*.bin"):
        entry.write_bytes(entry.read_bytes()[:-9])
    compiled()
    assert contents(tmp_path / "2", cache) == whole
    assert compiled() == sorted(KERNELS)


def test_another_instruction_set_or_version_has_objects_of_its_own(tmp_path, compiled, monkeypatch):
    cache, (name, kernel) = ContentCache(tmp_path / "cache"), next(iter(KERNELS.items()))
    contents(tmp_path / "1", cache, {name: kernel})
    assert compiled() == [name]
    contents(tmp_path / "2", cache, {name: kernel}, replace(ISA, processor="broadwell"))
    assert compiled() == [name]
    monkeypatch.setattr(object_files, "code_version", lambda: "another")
    contents(tmp_path / "3", cache, {name: kernel})
    assert compiled() == [name]


def test_a_code_generator_that_aborts_ends_the_compile_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(object_files, "write_object", lambda *_: os.abort())
    with pytest.raises(CrashError, match="SIGABRT"):
        contents(tmp_path / "1", NO_CACHE)
