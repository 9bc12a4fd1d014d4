"""Passes that break and caches that cannot be used: said in the first line, or done without."""

import json
from dataclasses import dataclass
from typing import ClassVar

import pytest

import graphpress
from graphpress.errors import PassError, ResourceError
from graphpress.manager.contract import Pass


@dataclass(frozen=True)
class Broken(Pass):
    """Has a bug."""

    name: ClassVar[str] = "broken"

    def run(self, model, context):
        raise TypeError("unsupported operand")


@dataclass(frozen=True)
class Full(Pass):
    """Fills the disk."""

    name: ClassVar[str] = "full"

    def run(self, model, context):
        raise OSError(28, "No space left on device")


@pytest.fixture
def optimize(network_file, tmp_path):
    """Clean up the small network with a further pass."""

    def run(*passes, **options):
        return graphpress.optimize(network_file, passes=["cleanup", *passes], output=tmp_path / "out", **options)

    return run


def test_a_pass_that_breaks_is_named_in_the_first_line_everywhere(optimize):
    result = optimize(Broken())
    said = "the pass broken failed: TypeError: unsupported operand; its changes were dropped"
    assert said in str(result).splitlines()[0]
    table = json.loads((result.output / "report.json").read_text())
    assert table["failures"] == [said]
    (record,) = (entry for entry in table["passes"] if entry["name"] == "broken")
    assert record["failure"] == "TypeError: unsupported operand"
    assert said[1:] in (result.output / "report.html").read_text()


def test_a_strict_run_delivers_nothing(optimize, tmp_path):
    with pytest.raises(PassError, match="broken: the pass failed"):
        optimize(Broken(), strict=True)
    assert not (tmp_path / "out").exists()


def test_a_fault_of_the_machine_inside_a_pass_is_that_fault(optimize, tmp_path):
    with pytest.raises(ResourceError, match="No space left on device"):
        optimize(Full())
    assert not (tmp_path / "out").exists()


def test_a_cache_that_cannot_be_used_is_a_note(optimize, tmp_path):
    (tmp_path / "cache").write_text("somebody's file")
    result = optimize(cache_dir=tmp_path / "cache")
    assert any(f"nothing is kept in {tmp_path / 'cache'}" in note for note in result.report.notes)
    assert (tmp_path / "cache").read_text() == "somebody's file"
