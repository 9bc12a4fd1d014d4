"""Remedies that refusals name: they are targets as the command line takes them, and hold what they name."""

import pytest

from graphpress.passes._kernels import choices_with_opset, targets_with
from graphpress.targets import load_target


@pytest.mark.parametrize("dtype", ["int4", "float8e4m3fn"])
def test_every_target_that_is_named_has_the_kernels(dtype):
    named = targets_with(dtype).rpartition(": ")[2].split(", ")
    assert {"jetson-thor", "rtx-ada"} <= set(named)
    assert all(dtype in load_target(one).kernels for one in named)


def test_a_target_that_has_them_by_choice_is_named_with_it():
    assert "dgpu{generation=ada}" in targets_with("float8e4m3fn")


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("jetson", "choose a newer runtime: jetson-orin{jetpack=7.2}"),
        ("dgpu{tensorrt=10.3}", "choose a newer runtime: dgpu"),
        ("jetson-xavier", "leave it"),
    ],
)
def test_choices_with_a_newer_operator_set(target, words):
    assert choices_with_opset(load_target(target), 22, "leave it") == words


def test_choices_of_a_file_are_written_behind_its_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "board.toml").write_text('like = "jetson"')
    assert choices_with_opset(load_target("board.toml"), 22, "leave it") == (
        "choose a newer runtime: board.toml{jetpack=7.2}"
    )
