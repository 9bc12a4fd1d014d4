"""What is written: a library with nothing open, its header, and a description."""

from __future__ import annotations

import json
import shutil
import subprocess

import numpy as np
import pytest
from kernel_checks.graphs import graph

from graphpress.backends.tvm import artifact
from graphpress.backends.tvm.artifact import LibraryOptions, delivered, write_library
from graphpress.backends.tvm.lowering.lower import lower
from graphpress.cache import ContentCache
from graphpress.errors import BackendError

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")

NAMES = {
    "share", "run", "profile", "destroy", "create", "create_from_memory", "error_text", "missing_feature", "abi",
    "input_bytes", "output_bytes",
}  # fmt: skip
"""What a library exports, behind the model's prefix."""
TEXT = "(float[1,8] x, float[1,4] _y_) => (float[1,4] z) {m = MatMul(x, w) z = Add(m, _y_)}"


def product(seed: int):
    return graph(TEXT, w=np.random.default_rng(seed).standard_normal((8, 4)).astype(np.float32))


@pytest.fixture(scope="module")
def write(tmp_path_factory, here):
    """Writes libraries, compiling each kernel once."""
    cache = ContentCache(tmp_path_factory.mktemp("cache"))

    def write_model(model, out, name: str) -> None:
        write_library(lower(model, here[-1]), here[-1], out, cache, LibraryOptions(name))

    return write_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write):
    out = tmp_path_factory.mktemp("library")
    write(product(0), out, "ResNet-18 (é)")
    return out


def symbols(*arguments: object) -> list[str]:
    """Lines that nm prints."""
    if shutil.which("nm") is None:
        pytest.skip("needs binutils")
    return subprocess.run(["nm", *map(str, arguments)], capture_output=True, text=True, check=True).stdout.splitlines()


def test_everything_is_there(folder):
    assert [name for name in delivered(LibraryOptions()) if not (folder / name).is_file()] == []


def test_the_functions_of_the_model_are_exported_and_nothing_else(folder):
    exported = {line.split()[-1] for line in symbols("-D", "--defined-only", folder / "libmodel.so")}
    assert exported == {f"resnet_18_e_{name}" for name in NAMES}


def test_nothing_is_needed_but_libc(folder):
    needed = [line.split()[-1] for line in symbols("-D", "--undefined-only", folder / "libmodel.so")]
    assert needed
    assert all("@GLIBC" in name for name in needed if not name.startswith(("_ITM", "__gmon"))), needed
    dynamic = subprocess.run(["readelf", "-dlW", folder / "libmodel.so"], capture_output=True, text=True).stdout
    assert {line.split("[")[1] for line in dynamic.splitlines() if "(NEEDED)" in line} <= {"libc.so.6]", "libm.so.6]"}
    assert "GNU_STACK" in dynamic
    assert "RWE" not in dynamic


def test_the_header_names_what_goes_in_and_out(folder):
    header = (folder / "model.h").read_text()
    assert "const float *x;\n    const float *y;\n} resnet_18_e_inputs;" in header
    assert '#define RESNET_18_E_Y_NAME "_y_"' in header
    assert "#define RESNET_18_E_Z_SHAPE {1, 4}" in header


@pytest.mark.parametrize("compiler", [["cc", "-std=c99"], ["cc", "-std=c11"], ["c++", "-std=c++11", "-x", "c++"]])
def test_the_header_is_c_and_cpp(folder, tmp_path, compiler):
    if shutil.which(compiler[0]) is None:
        pytest.skip(f"needs {compiler[0]}")
    uses = '#include "model.h"\nresnet_18_e_inputs inputs;\nuint64_t done_at[RESNET_18_E_STEPS];\n'
    (tmp_path / "a.c").write_text(uses)
    flags = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", f"-I{folder}", "-c", "a.c"]
    subprocess.run([*compiler, *flags], cwd=tmp_path, check=True)


def test_the_description_says_the_same(folder, newest):
    facts = json.loads((folder / "model.json").read_text())
    assert (facts["name"], facts["prefix"], facts["batch"]) == ("ResNet-18 (é)", "resnet_18_e", "open")
    assert facts["inputs"][1] == {"name": "_y_", "dtype": "float32", "shape": [1, 4]}
    assert facts["isa"] == {"name": newest.name, "architecture": "x86_64", "features": list(newest.needs)}
    assert facts["memory"]["weights_bytes"] == (folder / "weights.bin").stat().st_size


def test_weights_inside_are_in_both_libraries_and_no_file(tmp_path, newest):
    inside = LibraryOptions("net", weights_inside=True)
    write_library(lower(product(0), newest), newest, tmp_path, options=inside)
    assert json.loads((tmp_path / "model.json").read_text())["weights"] == "inside"
    assert "weights.bin" not in delivered(inside)
    weights = (tmp_path / "weights.bin").read_bytes()
    assert all(weights in (tmp_path / name).read_bytes() for name in ("libmodel.so", "libmodel.a"))
    exported = {line.split()[-1] for line in symbols("-D", "--defined-only", tmp_path / "libmodel.so")}
    assert exported == {f"net_{name}" for name in NAMES}


def test_weights_that_code_does_not_reach_are_refused(tmp_path, newest, monkeypatch):
    monkeypatch.setattr(artifact, "MOST_INSIDE", 100)
    with pytest.raises(BackendError, match=r"--weights inside: 0 MiB of weights do not go into a library"):
        write_library(lower(product(0), newest), newest, tmp_path, options=LibraryOptions(weights_inside=True))
    assert not list(tmp_path.iterdir())


PROGRAM = """
#include <stdio.h>
#include <stdlib.h>
#include "a/model.h"
#include "b/model.h"
int main(void) {
    static const float x[8] = {1, 2, 3, 4, 5, 6, 7, 8}, y[4] = {1, 1, 1, 1};
    float za[4], zb[4];
    a_model *first;
    b_model *second;
    if (a_create("a/weights.bin", 1, 1, &first) || b_create("b/weights.bin", 2, 1, &second)) return 1;
    a_inputs in = {x, y};
    a_outputs out = {za};
    b_inputs in_b = {x, y};
    b_outputs out_b = {zb};
    if (a_run(first, 1, &in, &out) || b_run(second, 1, &in_b, &out_b)) return 2;
    a_destroy(first);
    b_destroy(second);
    for (int i = 0; i < 4; i++) printf("%.9g %.9g\\n", za[i], zb[i]);
    return 0;
}
"""


def test_several_models_are_linked_into_one_program(tmp_path, write):
    """Of the same kernels, which both libraries hold."""
    for seed, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        write(product(seed), tmp_path / name, name)
    (tmp_path / "main.c").write_text(PROGRAM)
    libraries = ["a/libmodel.a", "b/libmodel.a"]
    subprocess.run(["cc", "-pthread", "main.c", "-o", "main", *libraries], cwd=tmp_path, check=True)
    lines = subprocess.run(["./main"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout.splitlines()
    x = np.arange(1, 9, dtype=np.float32)
    for seed in range(2):
        weights = np.random.default_rng(seed).standard_normal((8, 4)).astype(np.float32)
        printed = [float(line.split()[seed]) for line in lines]
        np.testing.assert_allclose(printed, x @ weights + 1, rtol=1e-5)


@pytest.mark.parametrize("name", ['*/ #error "out"\n', "\\", 'a"b??/', "worker", "pthread", "模型"])
def test_no_name_gets_out_of_its_place(tmp_path, write, name):
    model = product(0)
    for value in (*model.graph.inputs, *model.graph.outputs):
        value.name = f"{name}{value.name}"
    for node in model.graph:
        node.name = f"{name}{node.op_type}"
    write(model, tmp_path, name)
    json.loads((tmp_path / "model.json").read_text())
