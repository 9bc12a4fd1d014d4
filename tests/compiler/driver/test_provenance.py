"""What a report says of where its figures come from, and of the channels that a layer had and has."""

import shlex

import numpy as np
import pytest

import graphpress
from graphpress.manager.manifest import file_record
from graphpress.report.records import from_json


@pytest.fixture
def run(network_file, tmp_path):
    def optimize(**options):
        result = graphpress.optimize(network_file, output=tmp_path / "out", force=True, target="arm64", **options)
        return result.report, from_json((tmp_path / "out" / "report.json").read_text())

    return optimize


def test_command_model_and_data_are_told(run, images, network_file, tmp_path):
    data = tmp_path / "my data.npz"
    np.savez(data, **images)
    report, stored = run(data=data, recipe="cleanup", max_drop=None, seed=3)
    origin = report.provenance
    words = shlex.split(origin.command)
    assert words[:2] == ["optimize", network_file.name]
    options = dict(zip(words[2::2], words[3::2], strict=True))
    assert options == {
        "--target": "arm64", "--data": str(data), "--recipe": "cleanup", "--max-drop": "none", "--seed": "3",
    }  # fmt: skip
    assert origin.model_sha256 == file_record(network_file).sha256
    assert {part.part for part in origin.data} == {"calibration", "evaluation"}
    assert all(part.source == str(data) and part.samples == 64 and part.sha256 for part in origin.data)
    assert origin.date.endswith("+00:00")
    assert stored.provenance == origin


def test_what_has_no_words_is_said_to_be_in_memory(run, images):
    report, _ = run(data=images, passes=[graphpress.passes.Prune(ratio=0.5)], max_drop=None)
    words = shlex.split(report.provenance.command)
    assert words[words.index("--data") + 1] == "(in memory)"
    assert words[words.index("--passes") + 1].endswith("prune{ratio=0.5},reconstruct")


def test_pruning_shows_channels_before_and_after(run, images):
    report, _ = run(data=images, passes="prune{ratio=0.5}", max_drop=None)
    assert "--passes 'prune{ratio=0.5}'" in report.provenance.command
    pairs = [(layer.channels_before, layer.channels) for layer in report.layers if layer.op == "Conv"]
    assert all(before is not None and after is not None for before, after in pairs)
    assert any(after < before for before, after in pairs)
