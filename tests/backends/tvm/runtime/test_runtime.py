"""The runtime in C, alone and under sanitizers, and compiled for other systems."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

import pytest

CHECKS = Path(__file__).with_name("checks.c")
RUNTIME = Path(str(resources.files("graphpress.backends.tvm") / "runtime"))
FLAGS = ["-std=gnu11", "-O1", "-g", "-pthread", f"-I{RUNTIME}"]
STRICT = ["-Wall", "-Wextra", "-Werror", "-Wno-unused-function"]
MINGW = "x86_64-w64-mingw32-gcc"
"""Debian's gcc-mingw-w64-x86-64-win32."""
COUNTED = ["-Wl,--wrap=malloc,--wrap=calloc,--wrap=mmap"]
SANITIZED = {
    "plain": [],
    "thread": ["-fsanitize=thread"],
    "address": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
}
EVERYWHERE = ["instances", "wrap", "destroy", "forked", "busy", "slack", "sizes", "errors", "files", "stripes", "late"]
MEASURED = ["memory", "allocations"]
"""Sanitizers allocate memory of their own."""

TINY = """
#include "graphpress_runtime.c"
static void compute(const graphpress_instance *m, int32_t first, int32_t last) { (void)m, (void)first, (void)last; }
static const graphpress_step STEPS[] = {{compute, 1, NULL, 0}};
static const char *const FEATURES_NEEDED[] = {NULL};
static const graphpress_model MODEL = {.steps = STEPS, .features = FEATURES_NEEDED, .step_count = 1};
int tiny_create(graphpress_instance **created) { return graphpress_create(&MODEL, "weights", NULL, 2, 1, created); }
int tiny_share(graphpress_instance *m, graphpress_instance **created) { return graphpress_share(m, 2, 1, created); }
int tiny_run(graphpress_instance *m, uint64_t *done_at) { return graphpress_run(m, 1, NULL, NULL, done_at); }
const char *tiny_text(int code) { return graphpress_error_text(code); }
const char *tiny_missing(void) { return graphpress_missing_feature(&MODEL, 0); }
void tiny_destroy(graphpress_instance *m) { graphpress_destroy(m); }
"""
"""Uses everything that a model uses."""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Builds the checks, once for each kind of sanitizer."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    folder, programs = tmp_path_factory.mktemp("checks"), {}

    def build(kind: str) -> Path:
        if kind not in programs:
            program = folder / kind
            command = ["gcc", *FLAGS, *STRICT, *SANITIZED[kind], str(CHECKS), *COUNTED, "-o", str(program)]
            done = subprocess.run(command, capture_output=True, text=True)
            if "cannot find" in done.stderr and "san" in done.stderr:
                pytest.skip(f"needs gcc's {kind} sanitizer")
            assert not done.returncode, done.stderr
            programs[kind] = program
        return programs[kind]

    return build


@pytest.mark.parametrize("kind", SANITIZED)
@pytest.mark.parametrize("check", EVERYWHERE)
def test_it_holds_under_sanitizers(built, tmp_path, kind, check):
    done = subprocess.run([built(kind), check], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert not done.returncode, done.stderr
    assert not done.stderr


@pytest.mark.parametrize("check", MEASURED)
def test_memory_is_taken_when_an_instance_is_made_and_given_back(built, tmp_path, check):
    done = subprocess.run([built("plain"), check], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert not done.returncode, done.stderr


def test_a_runtime_that_does_not_wait_is_caught(tmp_path):
    """The checks are not blind."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    for file in RUNTIME.glob("graphpress_*"):
        shutil.copy(file, tmp_path)
    source = (tmp_path / "graphpress_runtime.c").read_text()
    broken = source.replace("atomic_load_explicit(&step->done, memory_order_acquire)", "tasks")
    assert broken != source
    (tmp_path / "graphpress_runtime.c").write_text(broken)
    flags = ["-std=gnu11", "-O1", "-pthread", f"-I{tmp_path}", *COUNTED]
    subprocess.run(["gcc", *flags, str(CHECKS), "-o", str(tmp_path / "broken")], check=True)
    assert subprocess.run([tmp_path / "broken", "instances"], capture_output=True, timeout=120).returncode


@pytest.mark.parametrize(
    "triple", ["x86_64-windows-gnu", "aarch64-windows-gnu", "aarch64-macos", "x86_64-macos", "aarch64-linux-musl"]
)
def test_it_compiles_for_other_systems(tmp_path, triple):
    if find_spec("ziglang") is None:
        pytest.skip("needs pip install ziglang")
    compile_tiny([sys.executable, "-m", "ziglang", "cc", "-target", triple, "-c"], tmp_path)


def test_it_links_for_windows(tmp_path):
    if shutil.which(MINGW) is None:
        pytest.skip(f"needs {MINGW}")
    compile_tiny([MINGW, "-shared", "-o", "tiny.dll"], tmp_path, "-lsynchronization")


def compile_tiny(command: list[str], folder: Path, *libraries: str) -> None:
    (folder / "tiny.c").write_text(TINY)
    arguments = [*command, *FLAGS, *STRICT, "tiny.c", *libraries]
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True)
    assert not done.returncode, done.stderr


def test_it_compiles_as_strict_c(tmp_path):
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    (tmp_path / "tiny.c").write_text(TINY)
    strict = [*FLAGS, *STRICT, "-Wpedantic", "-Wshadow", "-Wvla", "-Wundef"]
    subprocess.run(["cc", *strict, "-c", "tiny.c"], cwd=tmp_path, check=True)
