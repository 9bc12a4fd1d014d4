"""Warnings that make every figure doubtful reach the report, the terminal and whoever runs quietly."""

import json

import numpy as np
import pytest

from graphpress.cli.main import main
from graphpress.driver.doubts import raw_inputs


@pytest.fixture
def words(network_file, tmp_path):
    """A run on images that nobody scaled, with labels that mean nothing."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (40, 3, 16, 16)).astype(np.float32)
    images[0, 0, 0, 0] = 255
    np.savez(tmp_path / "a.npz", input=images, labels=random.integers(0, 10, 40))
    data = tmp_path / "data.yaml"
    part = f"{{source: {tmp_path / 'a.npz'}, inputs: {{input: input}}, labels: labels, slice: "
    data.write_text(f"calibration: {part}[0, 20]}}\nevaluation: {part}[16, 40]}}\n")
    return [str(network_file), "--data", str(data), "--passes", "cleanup", "--output", str(tmp_path / "out")]


@pytest.mark.parametrize("mode", [[], ["--quiet"], ["--json"]])
def test_data_that_does_not_go_with_the_model_is_a_warning_that_nothing_hides(words, capsys, mode):
    assert main([*words, *mode]) == 0
    out, err = (text.replace("\n  ", " ") for text in capsys.readouterr())
    if mode == ["--json"]:
        near_chance, shared = json.loads(out)["warnings"]
    else:
        near_chance, shared = [line for line in (err if mode else out).splitlines() if line.startswith("warning: ")]
    assert "hardly better than chance" in near_chance
    assert "input reaches 255" in near_chance
    assert "4 of 24 evaluation samples are calibration samples, too" in shared


def test_only_pixels_as_they_stand_in_files_look_raw():
    image = np.full((1, 3, 4, 4), 255, np.float32)
    assert raw_inputs({"x": image}) == ["x reaches 255"]
    for other in (image / 255, image * 4, image.astype(np.int64), image[0]):
        assert raw_inputs({"x": other}) == []
