"""Which compiler is taken, and what it says when it fails."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from graphpress.backends.tvm import toolchain
from graphpress.backends.tvm.toolchain import HOST, CToolchain, find_c_toolchain
from graphpress.errors import BackendError, ResourceError

ARM = "aarch64-linux-gnu"


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Puts programs on a path with nothing else on it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(toolchain, "find_spec", lambda name: None)

    def put(name: str, script: str = "exit 0") -> Path:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    return put


def test_the_system_s_compiler_is_taken(programs):
    programs("clang")
    assert find_c_toolchain().command == ("clang",)
    programs("cc")
    assert find_c_toolchain().command == ("cc",)


def test_cc_names_the_compiler_of_this_machine_and_its_first_arguments(programs, monkeypatch):
    programs("cc")
    programs("mine")
    programs(f"{ARM}-gcc")
    monkeypatch.setenv("CC", "mine -m64")
    assert find_c_toolchain().command == ("mine", "-m64")
    assert find_c_toolchain(ARM).command == (f"{ARM}-gcc",)


def test_cc_that_is_not_there_is_refused(programs, monkeypatch):
    programs("cc")
    monkeypatch.setenv("CC", "absent")
    with pytest.raises(BackendError, match="CC names 'absent'"):
        find_c_toolchain()


@pytest.mark.parametrize(
    ("triple", "zig"),
    [
        (HOST, f"{HOST}.2.17"),
        (ARM, f"{ARM}.2.17"),
        ("aarch64-linux-musl", "aarch64-linux-musl"),
        *[("x86_64-windows-gnu",) * 2],
    ],
)
def test_zig_compiles_where_there_is_no_other(programs, monkeypatch, triple, zig):
    monkeypatch.setattr(toolchain, "find_spec", lambda name: name == "ziglang" or None)
    assert find_c_toolchain(triple).command == (sys.executable, "-m", "ziglang", "cc", "-target", zig)


@pytest.mark.parametrize(("triple", "package"), [(HOST, "install gcc,"), (ARM, f"install gcc-{ARM},")])
@pytest.mark.usefixtures("programs")
def test_a_machine_without_a_compiler_is_told_what_to_install(triple, package):
    with pytest.raises(BackendError, match=f"no C compiler for {triple}") as caught:
        find_c_toolchain(triple)
    assert package in caught.value.fix
    assert "pip install ziglang" in caught.value.fix


def test_a_compiler_that_fails_is_quoted(programs, tmp_path):
    programs("cc", "for i in 1 2 3 4 5 6 7 8 9 10; do echo line $i >&2; done; exit 1")
    with pytest.raises(BackendError) as caught:
        find_c_toolchain().run(["-c", "a.c"], tmp_path)
    assert str(caught.value).startswith("cc: failed (code 1): line 3; line 4; ")
    assert "line 10" in str(caught.value)


def test_a_compiler_that_is_killed_says_by_what(programs, tmp_path):
    programs("cc", "kill -9 $$")
    with pytest.raises(BackendError, match="killed by signal 9"):
        find_c_toolchain().run([], tmp_path)


@pytest.mark.parametrize("words", ["as: final link failed: No space left on device", "cc1: out of memory allocating 4"])
def test_a_compiler_without_space_or_memory_is_a_fault_of_the_machine(programs, tmp_path, words):
    programs("cc", f"echo '{words}' >&2; exit 1")
    with pytest.raises(ResourceError):
        find_c_toolchain().run([], tmp_path)


def test_a_compiler_that_cannot_be_run_is_named(tmp_path):
    (tmp_path / "broken").write_text("no program")
    with pytest.raises((BackendError, ResourceError), match="broken"):
        CToolchain(HOST, (str(tmp_path / "broken"),)).run([], tmp_path)
