"""What a manifest from elsewhere may say, and that a replay tells whether the same bytes came out."""

import json
import shutil
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

import graphpress
from graphpress.driver.options import RECORDED, Options
from graphpress.errors import UsageError
from graphpress.ir import save
from graphpress.models import build
from graphpress.report import sentences

CODE = """
from pathlib import Path
Path(__file__).with_suffix(".ran").touch()

def run(*arguments):
    return 1.0
"""


@pytest.fixture(scope="module")
def recorded_run(tmp_path_factory):
    """A folder with a model, data, a module that tells when it is imported, and what a run left."""
    folder = tmp_path_factory.mktemp("recorded")
    save(build("resnet", depth=8, stem="cifar", width=4, image=8, classes=4), folder / "net.onnx")
    np.savez(folder / "data.npz", input=np.random.default_rng(0).normal(size=(8, 3, 8, 8)).astype(np.float32))
    (folder / "evil.py").write_text(CODE)
    optimize(folder, recipe="int8", output=folder / "recorded")
    return folder


@pytest.fixture
def place(recorded_run, monkeypatch):
    """The working directory: that folder, as it was."""
    monkeypatch.chdir(recorded_run)
    before = set(recorded_run.iterdir())
    monkeypatch.delitem(sys.modules, "evil", raising=False)
    yield recorded_run
    for entry in set(recorded_run.iterdir()) - before:
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def optimize(folder=None, **options):
    folder = folder or Path.cwd()
    given = {"data": str(folder / "data.npz"), "threads": 1, "max_drop": None, "allow_worse": True}
    return graphpress.optimize(folder / "net.onnx", **given | options)


@pytest.fixture
def recorded(place):
    """Edits the manifest, and gives the name of the new one; a table of the changes goes into that which is there."""

    def edited(changes=None):
        table = json.loads((place / "recorded" / "manifest.json").read_text())
        for key, value in (changes or {}).items():
            table[key] = {**table[key], **value} if isinstance(table[key], dict) else value
        (place / "replay.json").write_text(json.dumps(table))
        return "replay.json"

    return edited


@pytest.fixture
def ranges(place):
    """The key of the recorded ranges."""
    decisions = json.loads((place / "recorded" / "manifest.json").read_text())["decisions"]
    (key,) = (key for key in decisions if key.endswith("ranges"))
    return key


def test_what_says_how_a_model_is_made_is_recorded_and_nothing_else():
    names = {item.name for item in fields(Options) if item.metadata == RECORDED}
    assert names == {
        "target", "backend", "metric", "max_drop", "allow_worse", "exclude", "input_shape", "input_range", "threads",
        "tuning", "weights", "seed", "time_limit", "eval_limit", "verify", "keep_docs",
    }  # fmt: skip


# -- options -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "option",
    [
        {"output": "precious"}, {"force": True}, {"cache_dir": "precious"}, {"data": "elsewhere.npz"}, {"strict": True},
        {"recipe": "int8"}, {"passes": "evil:run"}, {"allow_code": True}, {"target": "jetson"}, {"hooks": {}},
    ],
    ids=lambda option: next(iter(option)),
)  # fmt: skip
def test_an_option_that_manifests_do_not_hold_is_refused(place, recorded, option):
    (place / "precious").mkdir()
    (place / "precious" / "work").write_text("work")
    manifest = recorded({"options": option})
    with pytest.raises(UsageError, match=f"cannot set the option '{next(iter(option))}'"):
        optimize(recipe=manifest, output="out")
    assert (place / "precious" / "work").read_text() == "work"
    assert not (place / "out").exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_drop", "much"),
        ("eval_limit", 0),
        ("verify", "never"),
        ("exclude", 3),
        ("input_shape", "x=1"),
        ("metric", []),
    ],
)
def test_a_value_that_an_option_does_not_take_names_the_manifest(recorded, option, value):
    with pytest.raises(UsageError) as raised:
        graphpress.optimize("net.onnx", data="data.npz", recipe=recorded({"options": {option: value}}), output="out")
    assert raised.value.where == f"replay.json: {option}"


@pytest.mark.parametrize(
    ("field", "value"), [("seed", -1), ("threads", 0), ("backend", "evil"), ("target", "/dev/zero")]
)
def test_so_does_a_field(recorded, field, value):
    manifest = recorded({field: value})
    with pytest.raises(UsageError, match=r"-1|0|evil|/dev/zero"):
        graphpress.optimize("net.onnx", data="data.npz", recipe=manifest, output="out")


# -- code --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"options": {"metric": "evil:run"}}, r"evil:run \(metric\)"),
        ({"recipe": "cleanup,evil:Pass"}, r"evil:Pass \(a pass\)"),
        ({"recipe": "evil:Pass{ratio=1}"}, r"evil:Pass \(a pass\)"),
        ({"recipe": "surgery{function='evil:run'}"}, r"evil:run \(surgery{function}\)"),
        ({"recipe": "train{loop='evil:run'}"}, r"evil:run \(train{loop}\)"),
        ({"recipe": "quantize{x={a: [b, 'evil:run']}}"}, r"evil:run \(quantize{x}\)"),
        ({"recipe": "evil:Pass", "options": {"metric": "evil:run"}}, r"evil:run \(metric\), evil:Pass \(a pass\)"),
    ],
)
def test_code_that_only_the_manifest_names_is_not_run(place, recorded, changes, named):
    manifest = recorded(changes)
    with pytest.raises(UsageError, match=f"it would run code that only the manifest names: {named}") as raised:
        optimize(recipe=manifest, output="out")
    assert "--allow-code" in raised.value.fix
    assert not (place / "evil.ran").exists()
    assert not (place / "out").exists()


def test_code_that_the_call_allows_is_run(place, recorded):
    result = optimize(recipe=recorded({"options": {"metric": "evil:run"}}), output="out", allow_code=True)
    assert result.report.metric_name == "evil:run"
    assert (place / "evil.ran").exists()


@pytest.mark.parametrize("metric", ["evil:run", "agreement"])
def test_a_metric_that_the_call_names_takes_the_place_of_the_recorded_one(recorded, metric):
    result = optimize(recipe=recorded({"options": {"metric": "evil:run"}}), output="out", metric=metric)
    assert result.report.metric_name == metric


def test_a_recipe_that_calls_itself_a_manifest_runs_nothing(place):
    (place / "manifest.json").write_text(json.dumps({"passes": ["evil:Pass"], "hooks": {"after_pass": "evil:run"}}))
    with pytest.raises(UsageError, match="manifest of version None"):
        optimize(recipe="manifest.json", output="out")
    assert not (place / "evil.ran").exists()


# -- malformed ---------------------------------------------------------------------------------------------------


def nested(levels):
    return "[" * levels + "]" * levels


@pytest.mark.parametrize(
    "text",
    [
        nested(3_000), '{"manifest_version": 1, "decisions": {"x": ' + nested(3_000) + "}}",
        '{"manifest_version": 1, "recipe": "cleanup", "target": "cpu", "backend": "onnxruntime", "decisions": {"x": '
        + nested(500) + "}}",
        '{"manifest_version": 1, "seed": NaN}', '{"manifest_version": 1, "decisions": {"x": 1e999}}',
        '{"manifest_version": 1, "seed": ' + "9" * 5000 + "}", '{"manifest_version": true}', '{"manifest_version": 1}',
        '{"manifest_version": 1, "recipe": "", "target": "cpu", "backend": "onnxruntime"}',
        '{"manifest_version": 1, "recipe": "cleanup{", "target": "cpu", "backend": "onnxruntime"}',
        '{"manifest_version": 1, "recipe": "quantize{x=' + nested(1_500)
        + '}", "target": "cpu", "backend": "onnxruntime"}',
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["manifest.json", "replay.json", "replay.yaml"])
def test_what_is_no_manifest_is_one_error(place, text, name):
    (place / name).write_text(text)
    with pytest.raises(UsageError) as raised:
        optimize(recipe=name, output="out")
    assert raised.value.fix
    assert len(str(raised.value)) < 10_000


@pytest.mark.parametrize(
    "decisions", [{"explicit": "cleanup"}, {"explicit": [["a"]]}, {"delivered": 5}, {"delivered": {}}]
)
def test_a_decision_of_another_kind_is_an_error(place, recorded, decisions):
    with pytest.raises(UsageError, match="decision"):
        optimize(recipe=recorded({"decisions": decisions}), output="out")
    assert not (place / "out").exists()


@pytest.mark.parametrize("wrong", [1, [], {"input": 3}, {"input": [2.0, 1.0]}, {"input": ["a", "b"]}, {"input": [1]}])
def test_so_is_one_that_a_pass_cannot_follow(place, recorded, ranges, wrong):
    with pytest.raises(UsageError, match=f"the recorded decision {ranges}"):
        optimize(recipe=recorded({"decisions": {ranges: wrong}}), output="out")
    assert not (place / "out").exists()


# -- the same bytes ----------------------------------------------------------------------------------------------


def test_a_replay_says_that_the_same_bytes_came_out(recorded):
    result = optimize(recipe=recorded(), output="out")
    assert result.report.changed_outputs == ()
    assert sentences.outcome(result.report).endswith("; the same bytes as recorded")
    assert not [note for note in result.report.notes if "anew" in note]


def test_a_run_of_its_own_says_nothing_of_it(place):
    result = optimize(recipe="cleanup", output="out")
    assert result.report.changed_outputs is None
    assert "recorded" not in sentences.outcome(result.report)


def test_a_replay_says_that_other_bytes_came_out_and_which_decisions_did_not_fit(recorded, ranges):
    outputs = [{"name": "model.onnx", "sha256": "0" * 64, "bytes": 1}]
    manifest = recorded({"outputs": outputs, "decisions": {ranges: {"nonesuch": [0.0, 1.0]}}})
    result = optimize(recipe=manifest, output="out")
    assert result.report.changed_outputs == ("model.onnx",)
    assert sentences.outcome(result.report).endswith("; NOT the bytes that were recorded: model.onnx")
    assert f"recorded decisions that did not fit were made anew: {ranges}" in result.report.notes


def test_a_target_names_no_recipe_file(place):
    """Which could name code; a target is data."""
    (place / "hooks.yaml").write_text("passes: ['evil:Pass']\nhooks: {after_pass: 'evil:run'}")
    (place / "board.toml").write_text('like = "cpu"\nrecipe = "./hooks.yaml"')
    with pytest.raises(UsageError, match=r"recipe: no recipe './hooks.yaml'"):
        optimize(target="./board.toml", output="out")
    assert not (place / "evil.ran").exists()
