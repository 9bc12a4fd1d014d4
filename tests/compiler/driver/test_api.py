"""Whole runs through the Python API: outcomes, what stays on disk, replay, and the never-worse gate."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import external_data_helper

import graphpress
from graphpress.errors import DataError, ModelError, UsageError
from graphpress.ir import load
from graphpress.manager.gate import Comparison
from graphpress.passes.quantize.quantize import Quantize

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def optimize(network_file, images, tmp_path):
    """Run on the small network; every run writes another folder."""

    def run(model=network_file, data=images, output=None, **options):
        folder = output or tmp_path / f"out{len(list(tmp_path.glob('out*')))}"
        return graphpress.optimize(model, data=data, output=folder, threads=1, **options)

    return run


def record(result, name):
    return next(one for one in result.report.passes if one.name == name)


# -- the public names ------------------------------------------------------------------------------------------


def test_every_public_name_is_there():
    for name in graphpress.__all__:
        assert getattr(graphpress, name).__name__ == name
    assert set(graphpress.__all__) <= set(dir(graphpress))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'optimiz'"):
        graphpress.optimiz  # noqa: B018


def test_the_version_is_the_one_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert graphpress.__version__ == project["project"]["version"]


def test_importing_it_loads_nothing_heavy():
    heavy = ("numpy", "onnx", "onnx_ir", "onnxruntime", "torch")
    code = f"import sys, graphpress; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# -- outcomes --------------------------------------------------------------------------------------------------


def test_a_run_leaves_model_report_page_and_manifest(optimize, network_file):
    result = optimize(allow_worse=True, max_drop=None)
    assert result.status == "delivered"
    assert sorted(file.name for file in result.files) == ["manifest.json", "model.onnx", "report.html", "report.json"]
    assert sorted(result.output.iterdir()) == sorted(result.files)
    table = json.loads((result.output / "report.json").read_text())
    assert table["status"] == "delivered"
    assert table["baseline"]["bytes"] == network_file.stat().st_size
    assert table["result"]["bytes"] == (result.output / "model.onnx").stat().st_size < 0.4 * table["baseline"]["bytes"]
    assert table["baseline"]["latency_ms"] > 0
    assert table["result"]["latency_ms"] > 0
    assert all(layer["became"] == "int8" for layer in table["layers"] if layer["op"] == "Conv")
    onnx.checker.check_model(onnx.load(result.output / "model.onnx"), full_check=True)


def test_a_miss_of_the_budget_writes_the_best_inside_it(optimize, spoil):
    result = optimize(passes=[spoil], metric="agreement", max_drop=0.01)
    assert result.status == "budget_not_met"
    assert record(result, "spoil").status == "rolled_back"
    assert any("more than the 1.00 points allowed" in note for note in record(result, "spoil").notes)


def test_a_waived_budget_lets_it_through(optimize, spoil):
    result = optimize(passes=[spoil], metric="agreement", max_drop=None, allow_worse=True)
    assert result.status == "delivered"
    assert result.report.verdict.drop > 0.1


def test_without_data_what_was_asked_for_runs_ungated_and_the_metric_is_null(optimize, spoil):
    result = optimize(data=None, passes=[spoil], allow_worse=True)
    assert result.status == "delivered"
    assert result.report.result.metric is None
    assert result.report.verdict is None


def test_without_data_quantization_is_refused_with_the_reason(optimize):
    result = optimize(data=None, recipe="int8")
    assert record(result, "quantize").status == "refused"
    assert any(one.pass_name == "quantize" and "--data" in one.fix for one in result.report.refusals)


def test_nothing_better_keeps_the_original_as_it_is(optimize, network_file, nothing):
    result = optimize(passes=[nothing])
    assert result.status == "kept_original"
    assert (result.output / "model.onnx").read_bytes() == network_file.read_bytes()


def test_the_original_is_kept_with_its_external_data(optimize, network_file, tmp_path, nothing):
    model = onnx.load(network_file)
    external_data_helper.convert_model_to_external_data(model, location="weights/net.bin", size_threshold=0)
    folder = tmp_path / "in"
    (folder / "weights").mkdir(parents=True)
    onnx.save(model, folder / "net.onnx")
    result = optimize(folder / "net.onnx", passes=[nothing])
    assert result.status == "kept_original"
    assert (result.output / "model.onnx").read_bytes() == (folder / "net.onnx").read_bytes()
    assert (result.output / "weights" / "net.bin").read_bytes() == (folder / "weights" / "net.bin").read_bytes()
    load(result.output / "model.onnx")
    assert result.report.result.bytes == result.report.baseline.bytes


def test_a_wrong_pass_of_the_users_is_dropped_and_named(optimize):
    class Negate(graphpress.Pass):
        """Claims to be lossless."""

        name = "negate"

        def run(self, model, context):
            head = next(node for node in model.graph if node.op_type == "Gemm")
            if head.doc_string:
                return graphpress.Outcome(0)
            head.doc_string = "negated"
            graphpress.Editor(model).own_constant(head, 1, -head.inputs[1].const_value.numpy())
            return graphpress.Outcome(1)

    result = optimize(passes=[Negate()])
    assert record(result, "negate").status == "rolled_back"
    assert result.status == "kept_original"


# -- the same again --------------------------------------------------------------------------------------------


def test_the_same_command_gives_the_same_bytes(optimize):
    first, second = (optimize(allow_worse=True, max_drop=None) for _ in range(2))
    assert (first.output / "model.onnx").read_bytes() == (second.output / "model.onnx").read_bytes()


def test_a_manifest_replays_to_the_same_bytes(optimize, images):
    first = optimize(allow_worse=True, max_drop=None)
    again = optimize(recipe=str(first.output / "manifest.json"))
    assert again.status == "delivered"
    assert (first.output / "model.onnx").read_bytes() == (again.output / "model.onnx").read_bytes()


@pytest.mark.parametrize("data", ["other", None])
def test_a_manifest_is_not_replayed_on_other_data(optimize, images, data):
    first = optimize(allow_worse=True, max_drop=None)
    given = None if data is None else {"input": 3 * images["input"]}
    with pytest.raises(UsageError, match="recorded with another calibration data"):
        optimize(data=given, recipe=str(first.output / "manifest.json"))


def test_a_replay_follows_the_recorded_choice_even_where_it_would_choose_otherwise(optimize, backends):
    kept = optimize(backend="slow", recipe="int8", max_drop=None)
    replayed = optimize(backend="onnxruntime", recipe=str(kept.output / "manifest.json"), max_drop=None)
    assert (kept.output / "model.onnx").read_bytes() == (replayed.output / "model.onnx").read_bytes()
    assert record(replayed, "quantize").status == "rolled_back"


def test_a_replay_needs_no_option_of_the_recorded_run(optimize):
    first = optimize(allow_worse=True, max_drop=None, exclude="layer1")
    again = optimize(recipe=str(first.output / "manifest.json"))
    assert (first.output / "model.onnx").read_bytes() == (again.output / "model.onnx").read_bytes()


def test_a_replay_is_for_the_same_device_with_the_same_options(optimize):
    first = optimize(target="jetson{jetpack=5.1}", backend="onnxruntime", max_drop=None)
    manifest = first.output / "manifest.json"
    assert json.loads(manifest.read_text())["target"] == first.report.target == "jetson-orin{jetpack=5.1}"
    for target in ("cpu", "jetson-orin-nx{dla=off, jetpack=5.1}"):  # left at its default, and written otherwise
        again = optimize(target=target, recipe=str(manifest))
        assert again.report.target == first.report.target
        assert (first.output / "model.onnx").read_bytes() == (again.output / "model.onnx").read_bytes()
    with pytest.raises(UsageError, match=r"another target \(jetson-orin{jetpack=5.1}\)"):
        optimize(target="jetson", recipe=str(manifest))


def test_a_fixed_batch_is_fed_and_fixed_throughout(optimize):
    result = optimize(input_shape=["input=2x3x16x16"], max_drop=None)
    graph = load(result.output / "model.onnx").graph
    assert [list(value.shape) for value in (*graph.inputs, *graph.outputs)] == [[2, 3, 16, 16], [2, 10]]


# -- never worse -----------------------------------------------------------------------------------------------


def test_what_makes_the_model_slower_is_dropped_and_named(optimize, backends):
    result = optimize(backend="slow", recipe="int8", max_drop=None)
    assert record(result, "quantize").status == "rolled_back"
    (dropped,) = [text for text in result.report.dropped_for_worse if text.startswith("quantize")]
    assert "times as slow" in dropped
    assert not any(node.op_type == "QuantizeLinear" for node in load(result.output / "model.onnx").graph)


def test_of_two_passes_of_one_name_only_the_dropped_one_is_rolled_back(optimize, spoil, monkeypatch):
    slower = iter(["slower with both", ""])
    monkeypatch.setattr(Comparison, "worse", property(lambda self: next(slower)))
    result = optimize(data=None, passes=[spoil, spoil])
    assert result.status == "delivered"
    assert [one.status for one in result.report.passes] == ["applied", "rolled_back"]
    assert result.report.passes[1].notes[-1] == "dropped: the result was slower with both"


def test_the_clean_up_behind_it_goes_with_the_pass_that_is_dropped(optimize, backends, touch):
    result = optimize(target="arm64", backend="wordy", passes=[Quantize(), touch], max_drop=None)
    assert result.status == "kept_original"
    assert [one.status for one in result.report.passes] == ["rolled_back", "rolled_back"]
    assert "larger" in result.report.passes[1].notes[-1]


def test_allow_worse_keeps_it(optimize, backends):
    result = optimize(backend="slow", recipe="int8", max_drop=None, allow_worse=True)
    assert result.status == "delivered"
    assert result.report.speed.ratio > 1.03
    assert record(result, "quantize").status == "applied"


def test_larger_without_being_faster_is_dropped(optimize, backends):
    result = optimize(target="arm64", backend="wordy", recipe="int8", max_drop=None)
    assert record(result, "quantize").status == "rolled_back"
    assert any("larger" in text for text in result.report.dropped_for_worse)
    assert "cache.bin" not in [file.name for file in result.files]


def test_a_model_that_came_quantized_and_is_kept_computes_in_integers(optimize):
    quantized = optimize(recipe="int8", allow_worse=True, max_drop=None)
    kept = optimize(model=quantized.output / "model.onnx", recipe="int8", max_drop=None)
    assert kept.status == "kept_original"
    assert {layer.became for layer in kept.report.layers if layer.op == "Conv"} == {"int8"}


def test_ranges_that_the_backend_has_no_use_for_are_said_to_be_unused(optimize):
    span = "input=1x3x16x16:4x3x16x16:8x3x16x16"
    notes = optimize(passes="cleanup", input_range=[span]).report.notes
    assert [note for note in notes if "--input-range changed nothing" in note]
    assert not any("--input-range" in note for note in optimize(passes="cleanup").report.notes)


# -- what is wrong with a call ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "what"),
    [
        ({"traget": "cpu"}, UsageError, "unknown option 'traget'"),
        ({"target": "cpus"}, UsageError, "unknown target"),
        ({"backend": "onnxruntim"}, UsageError, "unknown backend"),
        ({"recipe": "int9"}, UsageError, "no recipe"),
        ({"recipe": "int8", "passes": "cleanup"}, UsageError, "both a recipe and passes"),
        ({"passes": "quantis"}, UsageError, "unknown pass"),
        ({"hooks": {"after": print}}, UsageError, "unknown hook"),
        ({"exclude": "("}, UsageError, "regular expression"),
        ({"max_drop": float("nan")}, UsageError, "max_drop: cannot be nan"),
        ({"max_drop": "0.01"}, UsageError, "max_drop: cannot be '0.01'"),
        ({"time_limit": -1}, UsageError, "time_limit: cannot be -1"),
        ({"eval_limit": 0}, UsageError, "eval_limit: cannot be 0"),
        ({"seed": -1}, UsageError, "seed: cannot be -1"),
        ({"verify": "eech"}, UsageError, "did you mean 'each'"),
        ({"input_shape": "input=1x3x16x16"}, UsageError, "single text"),
        ({"data": None, "metric": "top1"}, UsageError, "needs data"),
        ({"input_shape": ["x=1"]}, UsageError, "no input 'x'"),
        ({"data": {"input": np.zeros((4, 3, 9, 9), np.float32)}}, DataError, "input"),
        ({"data": {"input": np.zeros((0, 3, 16, 16), np.float32)}}, DataError, ""),
        ({"model": "no-such.onnx"}, ModelError, "no such model file"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(optimize, tmp_path, options, error, what):
    with pytest.raises(error) as raised:
        optimize(**options)
    assert what in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_hook_that_fails_leaves_nothing_behind(optimize, tmp_path):
    def hook(*_):
        raise ValueError("no")

    with pytest.raises(graphpress.GraphpressError, match="hook failed"):
        optimize(passes="cleanup", hooks={"after_pass": hook})
    assert list(tmp_path.iterdir()) == []


def test_excluded_nodes_stay_float(optimize):
    result = optimize(exclude="layer1", allow_worse=True, max_drop=None)
    became = {layer.name: layer.became for layer in result.report.layers if layer.op == "Conv"}
    assert {kind for name, kind in became.items() if "layer1" in name} == {"float32"}
    assert {kind for name, kind in became.items() if "layer1" not in name} == {"int8"}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('backend = "tensort"', "backend: unknown backend 'tensort'"),
        ('recipe = "int9"', "recipe: no recipe 'int9'"),
    ],
)
def test_a_word_of_a_target_file_that_is_none_is_said_of_the_file(optimize, tmp_path, line, said):
    board = tmp_path / "board.toml"
    board.write_text(f'like = "cpu"\n{line}')
    with pytest.raises(UsageError) as raised:
        optimize(target=str(board), recipe=None)
    assert str(raised.value).startswith(f"{board}: {said}"), raised.value


def test_a_replay_notices_that_a_target_file_changed_or_is_not_here(optimize, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    board = tmp_path / "board.toml"
    board.write_text('like = "cpu"\nopset_max = 20')
    first = optimize(target="./board.toml", recipe="cleanup", max_drop=None)
    manifest = str(first.output / "manifest.json")
    board.write_text('like = "cpu"\nopset_max = 20\ndescription = "in other words"')
    optimize(recipe=manifest)
    moved = board.rename(tmp_path / "moved.toml")
    with pytest.raises(
        UsageError, match=r"target board\.toml: its target cannot be used: no such target file"
    ) as raised:
        optimize(recipe=manifest)
    assert "the folder in which the run was recorded" in raised.value.fix
    optimize(target=str(moved), recipe=manifest)
    moved.rename(board).write_text('like = "cpu"\nopset_max = 19')
    with pytest.raises(UsageError, match=r"recorded with another target \(board\.toml\)"):
        optimize(recipe=manifest)
