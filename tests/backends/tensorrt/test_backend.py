"""The backend through the main job: what it leaves in the folder, what it says, and what it refuses."""

import json
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from graphpress import optimize, save
from graphpress.backend import CompileOptions, Findings
from graphpress.backends.tensorrt.backend import LOWERED, NEXT, TensorRTArtifact, TensorRTBackend
from graphpress.backends.tensorrt.toolchain import device_capability, find_toolchain
from graphpress.errors import BackendError, ModelError, UsageError
from graphpress.ir import load
from graphpress.models import build
from graphpress.targets import load_target

needs_compiler = pytest.mark.skipif(
    find_toolchain("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed: pip install 'graphpress[tensorrt]'"
)
here = next(
    (name for name in ("jetson", "jetson-thor", "dgpu", "rtx") if TensorRTBackend().runs_here(load_target(name))), None
)


@pytest.fixture
def source(tmp_path):
    return save(build("resnet", depth=18, width=8, image=32), tmp_path / "resnet.onnx")[0]


@pytest.fixture
def samples(tmp_path):
    data = tmp_path / "data.npz"
    np.savez(data, input=np.random.default_rng(0).normal(size=(8, 3, 32, 32)).astype(np.float32))
    return data


def model_of(tmp_path, text, opset=17):
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": {opset}, "acme": 1]> {text}')
    onnx.save(proto, tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def test_it_always_works_and_says_what_it_can_do():
    state = TensorRTBackend().available()
    assert state.works
    assert state.install or find_toolchain() is not None


@needs_compiler
def test_a_bundle_for_a_device_that_is_elsewhere(source, samples, tmp_path):
    result = optimize(source, target="jetson", data=samples, output=tmp_path / "out", allow_worse=True)
    report, folder = result.report, tmp_path / "out"
    assert report.status == "delivered"
    assert NEXT["build"] in report.notes
    assert any("checked on proxy SM80/86" in note for note in report.notes)
    assert report.unverified
    assert report.result.latency_ms is None
    names = {file.name for file in folder.iterdir()}
    assert names >= {"build.sh", "verify.py", "engine.py", "expected.json", "README.md"}
    expected = json.loads((folder / "expected.json").read_text())["layers"]
    assert {(layer["asked"], layer["proxy"]) for layer in expected if layer["op"] == "Conv"} == {("int8", "int8")}
    assert report.result.bytes == (folder / "model.onnx").stat().st_size


@needs_compiler
def test_the_same_run_gives_the_same_bytes(source, samples, tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        optimize(source, target="jetson", data=samples, output=folder, allow_worse=True)
    for name in ("model.onnx", "model-weak.onnx", "build.sh", "expected.json"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


@needs_compiler
def test_a_model_that_nothing_improves_still_gets_its_bundle(source, tmp_path):
    result = optimize(source, target="jetson", passes="eliminate_identity", output=tmp_path / "out")
    assert result.status == "kept_original"
    assert (tmp_path / "out" / "model.onnx").read_bytes() == source.read_bytes()
    assert (tmp_path / "out" / "build.sh").is_file()
    assert any("checked on proxy" in note for note in result.report.notes)


@needs_compiler
@pytest.mark.parametrize("route", ["parser", "network"])
def test_engines_that_are_portable_are_built_here(source, samples, tmp_path, route):
    target = f"rtx{{route={route}}}"
    result = optimize(source, target=target, data=samples, output=tmp_path / "out", allow_worse=True)
    assert (LOWERED in result.report.notes) == (route == "network")
    assert {layer.became for layer in result.report.layers if layer.op == "Conv"} == {"int8"}
    plans = {file.name for file in (tmp_path / "out").glob("*.plan")}
    assert plans == {"model-sm86.plan", "model-sm89.plan", "model-sm120.plan"}
    assert {f"out/{name}" for name in plans} <= {str(file.relative_to(tmp_path)) for file in result.files}


def test_without_a_compiler_it_writes_the_bundle_and_claims_nothing(source, samples, tmp_path, monkeypatch):
    monkeypatch.setattr("graphpress.backends.tensorrt.backend.find_toolchain", lambda *_: None)
    report = optimize(source, target="jetson", data=samples, output=tmp_path / "out", allow_worse=True).report
    assert (tmp_path / "out" / "build.sh").is_file()
    assert any("not checked: TensorRT is not installed here" in item for item in report.unverified)
    assert {layer.became for layer in report.layers if layer.asked == "int8"} == {None}


@pytest.mark.parametrize(
    ("text", "opset", "what"),
    [
        ("g (float[1, 4, 4] x) => (float[1] y) { y = Det(x) }", 17, "Det"),
        ("g (float[1, 4] x) => (float[1, 4] y) { y = Relu(x) }", 25, "operator set 25"),
    ],
)
def test_what_the_device_cannot_take_is_refused_before_any_work(tmp_path, text, opset, what):
    with pytest.raises(ModelError, match="cannot take it") as caught:
        optimize(model_of(tmp_path, text, opset), target="jetson", output=tmp_path / "out")
    assert what in str(caught.value)
    assert caught.value.fix
    assert not (tmp_path / "out").exists()


@needs_compiler
def test_what_only_the_stand_in_lacks_is_no_refusal(tmp_path):
    model = model_of(tmp_path, "g (float[1, 4] x) => (float[2, N] y) { n = NonZero(x) y = Cast<to = 1>(n) }")
    report = optimize(model, target="jetson", passes="cleanup", output=tmp_path / "out").report
    assert any("not checked" in item and "NonZero" in item for item in report.unverified)
    with pytest.raises(ModelError, match="NonZero"):
        optimize(model, target="rtx", passes="cleanup", output=tmp_path / "rtx")


def test_the_size_of_a_model_counts_its_data_under_any_name(source, tmp_path, monkeypatch):
    """Where the input model is delivered as it is, its data keep their names."""
    monkeypatch.setattr("graphpress.backends.tensorrt.backend.find_toolchain", lambda *_: None)
    apart = tmp_path / "apart" / "resnet.onnx"
    apart.parent.mkdir()
    onnx.save(onnx.load(source), apart, save_as_external_data=True, location="weights of it.bin", size_threshold=0)
    result = optimize(apart, target="jetson", passes="eliminate_identity", output=tmp_path / "out")
    assert result.status == "kept_original"
    files = [tmp_path / "out" / name for name in ("model.onnx", "weights of it.bin")]
    assert result.report.result.bytes == sum(file.stat().st_size for file in files)


def test_what_the_device_builds_may_be_built_again_there(source, tmp_path, monkeypatch):
    """Engine and timings are delivered, but are no files whose checksums must hold."""

    def built(request, *_):
        request.plan.write_bytes(b"engine")
        request.timing_cache.write_bytes(b"timings")
        return Findings()

    monkeypatch.setattr(TensorRTBackend, "runs_here", lambda *_: True)
    monkeypatch.setattr("graphpress.backends.tensorrt.backend.build_here", built)
    monkeypatch.setattr("graphpress.backends.tensorrt.backend.find_toolchain", lambda *_: SimpleNamespace())
    backend, target = TensorRTBackend(), load_target("jetson")
    artifact = backend.compile(backend.prepare(load(source), target), CompileOptions(target), tmp_path)
    assert {"model.plan", "timing.cache"} <= {file.name for file in artifact.files}
    assert sorted(artifact.files) == sorted({*artifact.files})
    checked = json.loads((tmp_path / "expected.json").read_text())["files"]
    assert "model.onnx" in checked
    assert not {"model.plan", "timing.cache"} & set(checked)
    assert NEXT["run"] in artifact.findings().notes


def test_an_engine_is_loaded_by_the_product_that_built_it(rtx, tmp_path, monkeypatch):
    loaded = []
    monkeypatch.setattr("graphpress.backends.tensorrt.backend.Engine", lambda *given: loaded.append(given))
    plan = tmp_path / "model.plan"
    with pytest.raises(AttributeError):
        TensorRTArtifact([], 0, Findings(), plan, "tensorrt_rtx").run({})
    assert loaded == [(plan, rtx.module)]


def test_a_target_of_another_backend_is_refused(source, tmp_path):
    with pytest.raises(UsageError, match="the target cpu has no TensorRT settings"):
        optimize(source, target="cpu", backend="tensorrt", output=tmp_path / "out")


def test_an_open_dimension_of_which_nothing_is_known_is_an_error(tmp_path):
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, "time", 8]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="nothing is known") as caught:
        optimize(tmp_path / "m.onnx", target="jetson", output=tmp_path / "out", passes="cleanup")
    assert "--input-range" in caught.value.fix
    result = optimize(
        tmp_path / "m.onnx", target="jetson", output=tmp_path / "out", passes="cleanup",
        input_range=["x=1x1x8:1x50x8:1x100x8"],
    )  # fmt: skip
    assert result.output.is_dir()


@needs_compiler
def test_a_range_in_which_the_model_does_not_hold_is_an_error(tmp_path):
    """Its table of positions has 64 rows."""
    model = save(build("bert"), tmp_path / "bert.onnx")[0]
    with pytest.raises(UsageError, match="does not hold at the max shapes") as caught:
        optimize(model, target="jetson", passes="cleanup", output=tmp_path / "out",
                 input_range=["input_ids=1x1:4x32:16x256"])  # fmt: skip
    assert "position" in caught.value.fix
    assert not (tmp_path / "out").exists()


def test_the_engine_takes_every_length_of_the_data(tmp_path):
    """The longest comes late, and is among the golden samples."""
    model = save(build("bert"), tmp_path / "bert.onnx")[0]
    lengths = [5 + at % 9 for at in range(20)]
    lengths[15] = 60
    names = ("input_ids", "attention_mask", "token_type_ids")
    feeds = [dict.fromkeys(names, np.ones((1, length), np.int64)) for length in lengths]
    result = optimize(model, target="jetson", data=feeds, passes="cleanup", output=tmp_path / "out")
    assert any("the engine takes input_ids 1x5 to 16x60" in note for note in result.report.notes)
    golden = [np.load(file)["input.0"].shape for file in (tmp_path / "out" / "golden").glob("*.npz")]
    assert {(1, 5), (1, 60)} <= set(golden)


def test_without_data_texts_get_the_lengths_that_the_model_takes(tmp_path):
    """Its table of positions has 64 rows."""
    model = save(build("bert"), tmp_path / "bert.onnx")[0]
    notes = optimize(model, target="jetson", passes="cleanup", output=tmp_path / "out").report.notes
    assert any("the engine takes input_ids 1x1 to 16x64" in note for note in notes)
    assert any("lengths of token ids are a guess" in note for note in notes)


def test_samples_outside_the_range_of_shapes_are_no_golden_ones(source, samples, tmp_path):
    """The engine would refuse them on the device."""
    inside = optimize(source, target="jetson", data=samples, output=tmp_path / "a", allow_worse=True)
    assert any("the engine takes input 1x3x32x32 to 16x3x32x32" in note for note in inside.report.notes)
    assert list((tmp_path / "a" / "golden").glob("*.npz"))
    outside = optimize(
        source, target="jetson", data=samples, output=tmp_path / "b", allow_worse=True,
        input_range=["input=32x3x32x32:32x3x32x32:64x3x32x32"],
    )  # fmt: skip
    assert any("no sample lies in the range" in item for item in outside.report.unverified)
    assert not list((tmp_path / "b").glob("golden/*.npz"))


def test_what_is_not_built_here_does_not_run_here(source, samples, tmp_path):
    backend, target = TensorRTBackend(), load_target("jetson")
    if backend.runs_here(target):
        pytest.skip("this is the device")
    artifact = backend.compile(backend.prepare(load(source), target), CompileOptions(target), tmp_path)
    with pytest.raises(BackendError, match="no engine here"):
        artifact.run({})


@pytest.mark.needs_device
@pytest.mark.skipif(here is None, reason=f"needs_device: no GPU with TensorRT here ({device_capability() or 'no GPU'})")
def test_on_the_device_the_engine_is_built_run_and_measured(source, samples, tmp_path):
    result = optimize(source, target=here, data=samples, output=tmp_path / "out")
    assert result.report.result.latency_ms is not None
    assert result.report.speed is not None
    assert not result.report.unverified
