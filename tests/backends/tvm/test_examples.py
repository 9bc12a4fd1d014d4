"""The demo, compiled, in programs of C and C++ that CMake builds."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import graphpress.models.demo
from graphpress.backend import CompileOptions
from graphpress.backends.tvm.backend import TvmBackend
from graphpress.ir import load
from graphpress.manager.contract import Context
from graphpress.manager.prepare import prepare
from graphpress.passes.fusion.fold_batch_norm import FoldBatchNorm
from graphpress.runtime import Session
from graphpress.targets import load_target

STRICT = ["-DCMAKE_C_FLAGS=-Wall -Wextra -Wpedantic -Werror", "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Wpedantic -Werror"]
DIGITS = Path(graphpress.models.demo.__file__).with_name("digits.onnx")

pytestmark = [
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler"),
    pytest.mark.skipif(shutil.which("cmake") is None or shutil.which("c++") is None, reason="needs CMake and C++"),
    pytest.mark.usefixtures("here"),
]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The demo's folder, an input, and the class that ONNX Runtime gives it."""
    return compiled_digits(tmp_path_factory)


def compiled_digits(tmp_path_factory, weights="beside"):
    folder, model = tmp_path_factory.mktemp("digits"), load(DIGITS)
    data = np.random.default_rng(0).random((1, 1, 8, 8), np.float32) * 16
    data.tofile(folder / "input.bin")
    prepare(model, {"image": data.shape})
    backend, options = TvmBackend(), CompileOptions(load_target("cpu"), name="digits", weights=weights)
    FoldBatchNorm().run(model, Context(target=options.target, original=model))
    backend.compile(backend.prepare(model, options.target), options, folder)
    (logits,) = Session(DIGITS).run({"image": data}).values()
    return folder, f"largest at {logits.argmax()} ("


@pytest.mark.parametrize("inside", ["OFF", "ON"])
def test_programs_print_the_class(digits, tmp_path, inside):
    folder, answer = digits
    configure = ["cmake", "-S", folder / "examples", "-B", tmp_path, f"-DWEIGHTS_INSIDE={inside}"]
    build([*configure, *STRICT], tmp_path)
    weights = folder / "weights.bin" if inside == "OFF" else "nowhere"
    for program in ("example_c", "example_cpp"):
        command = [tmp_path / program, weights, "2", folder / "input.bin"]
        assert answer in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def build(configure, folder):
    subprocess.run(configure, check=True, capture_output=True)
    built = subprocess.run(["cmake", "--build", folder], capture_output=True, text=True)
    assert not built.returncode, built.stdout + built.stderr


def test_programs_need_no_file_where_the_library_has_its_weights(tmp_path, tmp_path_factory):
    folder, answer = compiled_digits(tmp_path_factory, weights="inside")
    assert not (folder / "weights.bin").exists()
    build(["cmake", "-S", folder / "examples", "-B", tmp_path, *STRICT], tmp_path)
    for program in ("example_c", "example_cpp"):
        command = [tmp_path / program, "2", folder / "input.bin"]
        assert answer in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_program_without_weights_says_what_is_wrong(digits, tmp_path):
    folder, _ = digits
    flags = [
        f"-I{folder}",
        "-pthread",
        folder / "examples/example.c",
        folder / "libmodel.a",
        "-o",
        tmp_path / "program",
    ]
    subprocess.run(["cc", *flags], check=True)
    done = subprocess.run([tmp_path / "program", "nowhere"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "nowhere: the file of weights cannot be read\n")
