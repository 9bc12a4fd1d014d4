"""The backend in a whole job: what it delivers, what it says of layers, and what it refuses."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

pytest.importorskip("tvm", reason="needs graphpress[tvm]")

from kernel_checks.graphs import graph

import graphpress
import graphpress.runtime
from graphpress.backend import CompileOptions
from graphpress.backends.onnxruntime.backend import OnnxRuntimeBackend
from graphpress.backends.tvm import toolchain
from graphpress.backends.tvm.artifact import LibraryOptions, delivered
from graphpress.backends.tvm.backend import TvmBackend
from graphpress.errors import BackendError, ModelError, UsageError
from graphpress.ir import DataType, save, serialize
from graphpress.models import build
from graphpress.targets import load_target

SMALL = {"depth": 8, "stem": "cifar", "width": 8, "image": 16}
CPU = CompileOptions(load_target("cpu"))

needs_arm = pytest.mark.skipif(shutil.which("aarch64-linux-gnu-gcc") is None, reason="needs gcc-aarch64-linux-gnu")
pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


@pytest.fixture
def network(tmp_path):
    """A file of a small network that takes any number of images."""
    model = build("resnet", **SMALL)
    return save(model, tmp_path / "network.onnx")[0]


def test_it_is_available():
    state = TvmBackend().available()
    assert state.works
    assert state.detail.startswith("apache-tvm ")


def test_weights_go_into_a_library_only_where_one_is_sure_to_be_made(network, tmp_path):
    with pytest.raises(UsageError, match=r"--weights: the backend 'onnxruntime' does not put weights inside"):
        graphpress.optimize(network, weights="inside", output=tmp_path / "out")


@pytest.mark.usefixtures("here")
def test_a_job_delivers_a_library_and_the_model_beside_it(network, tmp_path):
    images = np.random.default_rng(0).standard_normal((32, 3, 16, 16)).astype(np.float32)
    result = graphpress.optimize(
        network, backend="tvm", data=[{"input": images}], recipe="int8", max_drop=None, output=tmp_path / "out"
    )
    assert result.status == "delivered"
    assert [
        name for name in ("model.onnx", *delivered(LibraryOptions())) if not (tmp_path / "out" / name).is_file()
    ] == []
    became = [layer.became for layer in result.report.layers if layer.op == "Conv"]
    assert became
    assert set(became) == {"int8"}


@pytest.mark.usefixtures("here")
def test_types_that_passes_left_open_are_inferred(tmp_path):
    model = graph("(float[1,8,4] x) => (float[1,4,8] y) {h = Relu(x) y = Transpose <perm = [0,2,1]> (h)}")
    (inner,) = model.graph[0].outputs
    inner.type = inner.shape = None
    backend = TvmBackend()
    artifact = backend.compile(backend.prepare(model, CPU.target), CPU, tmp_path)
    feed = {"x": np.random.default_rng(0).standard_normal((1, 8, 4)).astype(np.float32)}
    np.testing.assert_array_equal(artifact.run(feed)["y"], np.maximum(feed["x"], 0).transpose(0, 2, 1))


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_single_precision(half, tmp_path):
    """What comes in and goes out keeps its type. ONNX Runtime, which tries batches, lacks bfloat16."""
    rng, code = np.random.default_rng(0), int(DataType[half.upper()])
    images = "n" if half == "float16" else "2"
    text = f"""(float16[{images},3,6,6] x) => (float16[{images},8,1,1] y) {{
        c = Cast<to = {code}>(x)
        h = Conv<kernel_shape = [3,3]>(c, w)
        m = GlobalAveragePool(h)
        s = Softmax<axis = 1>(m)
        y = Cast<to = 10>(s)
    }}"""
    weights = rng.standard_normal((8, 3, 3, 3)).astype(np.float16)
    model = graph(text, opset=12 if half == "float16" else 22, w=weights.astype(DataType[half.upper()].numpy()))
    backend = TvmBackend()
    artifact = backend.compile(backend.prepare(model, CPU.target), CPU, tmp_path)
    assert not artifact.findings().refusals
    x = rng.standard_normal((2, 3, 6, 6)).astype(np.float16)
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), (3, 3), (2, 3))
    sums = np.einsum("nchwij,ocij->no", windows, weights.astype(np.float64)) / 16
    expected = np.exp(sums) / np.exp(sums).sum(1, keepdims=True)
    result = artifact.run({"x": x})["y"]
    assert result.dtype == np.float16
    np.testing.assert_allclose(result[..., 0, 0], expected, rtol=0, atol=1e-3 if half == "float16" else 1e-2)


@needs_arm
def test_a_library_for_another_processor_is_compiled_and_not_loaded_here(tmp_path):
    text = "(float[1,8] x) => (float[1,4] y) {y = MatMul(x, w)}"
    model, options = graph(text, w=np.ones((8, 4), np.float32)), CompileOptions(load_target("raspberrypi5"))
    backend = TvmBackend()
    assert backend.check(model, options) == []
    artifact = backend.compile(backend.prepare(model, options.target), options, tmp_path)
    assert (tmp_path / "libmodel.so").read_bytes()[18] == 183  # EM_AARCH64
    assert "no samples" in artifact.findings().notes[0]
    with pytest.raises(BackendError, match="compiled for aarch64; this processor is x86_64"):
        graphpress.runtime.load(tmp_path)


def test_a_device_without_its_compiler_is_refused_before_any_work(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(toolchain, "find_spec", lambda name: None)
    with pytest.raises(BackendError, match="aarch64-linux-gnu") as raised:
        TvmBackend().check(build("resnet", **SMALL), CompileOptions(load_target("raspberrypi5")))
    assert "gcc-aarch64-linux-gnu" in raised.value.fix


@pytest.mark.usefixtures("here")
def test_open_dimensions_behind_the_images_are_refused():
    model = build("resnet", **SMALL)
    model.graph.inputs[0].shape = graphpress.ir.Shape(["n", 3, "h", "w"])
    (refusal,) = TvmBackend().check(model, CPU)
    assert refusal.where == "input"
    assert "--input-shape input=1x3x" in refusal.fix


@pytest.mark.usefixtures("here")
def test_an_operator_without_kernels_is_named_and_nothing_is_written(tmp_path):
    backend, model = TvmBackend(), graph("(float[2,3] x) => (float[2,3] y) { y = RandomNormalLike(x) }")
    with pytest.raises(ModelError, match=r"node .* has no kernels"):
        backend.compile(backend.prepare(model, CPU.target), CPU, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("here")
def test_an_input_model_that_nothing_improves_is_a_library_all_the_same_checked_and_timed(network, tmp_path):
    result = graphpress.optimize(
        network, backend="tvm", passes="merge_pads", input_shape=["input=2x3x16x16"], output=tmp_path / "out"
    )
    report = result.report
    assert report.speed is not None
    assert "graphpress.runtime.load(" in report.usage
    with graphpress.runtime.load(result.output) as model:
        assert model.inputs[0].shape == (2, 3, 16, 16)


@pytest.mark.usefixtures("here")
def test_what_breaks_in_the_code_generator_is_an_error_of_the_model(monkeypatch, tmp_path):
    def breaks(*_):
        raise RuntimeError("Check failed: lanes\nat line 7")

    monkeypatch.setattr("graphpress.backends.tvm.object_files.write_object", breaks)
    backend, model = TvmBackend(), build("resnet", depth=8, stem="cifar", width=8, image=16)
    with pytest.raises(ModelError, match=r"breaks on it \(Check failed: lanes\)"):
        backend.compile(backend.prepare(model, CPU.target), CPU, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_model_beside_the_library_is_the_one_for_onnxruntime():
    model = build("resnet", **SMALL)
    forms = [backend.prepare(model, CPU.target).delivered for backend in (TvmBackend(), OnnxRuntimeBackend())]
    assert serialize(forms[0]) == serialize(forms[1])


@pytest.mark.usefixtures("here")
def test_a_compiler_that_fails_is_quoted_and_nothing_is_written(tmp_path, monkeypatch):
    compiler, out = tmp_path / "broken-cc", tmp_path / "out"
    compiler.write_text("#!/bin/sh\necho 'as: no such instruction' >&2\nexit 1\n")
    compiler.chmod(0o755)
    out.mkdir()
    monkeypatch.setenv("CC", str(compiler))
    backend, model = TvmBackend(), build("resnet", **SMALL, batch_norm=False)
    with pytest.raises(BackendError, match=r"broken-cc: failed \(code 1\): as: no such instruction"):
        backend.compile(backend.prepare(model, CPU.target), CPU, out)
    assert list(out.iterdir()) == []
