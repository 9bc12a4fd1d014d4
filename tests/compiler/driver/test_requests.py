"""What was asked for by name and did not happen is told first, with what would do something in its place."""

import html
import json
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import pytest

import graphpress
from graphpress.cli.main import main
from graphpress.ir import Refusal
from graphpress.manager.contract import Outcome, Pass
from graphpress.passes.quantize.quantize_weights import QuantizeWeights

WOULD_RUN = (
    "the pass quantize_weights was not done: this target has no int4 kernels "
    "(--passes 'cleanup,fuse,quantize_weights{dtype=int8}' would run)"
)


@dataclass(frozen=True)
class Picky(Pass):
    """Finds nothing to do, or breaks."""

    name: ClassVar[str] = "picky"
    lossless: ClassVar[bool] = False

    breaks: bool = False

    def run(self, model, context):
        if self.breaks:
            raise KeyError("w")
        return Outcome(0, [Refusal("head", "it is too small")])


@dataclass(frozen=True)
class Helper(Picky):
    """The same as recovery."""

    name: ClassVar[str] = "helper"
    recovers: ClassVar[bool] = True


@pytest.fixture
def optimize(network_file, tmp_path):
    """A quick run on the small network."""
    return partial(graphpress.optimize, network_file, output=tmp_path / "out", force=True)


def first_line(result):
    return str(result).splitlines()[0]


def test_a_recipe_that_the_target_cannot_take_is_told_first_with_the_pass_that_would_run(optimize):
    result = optimize(recipe="int4-weights")
    assert first_line(result).split(": ", 1)[1].startswith(WOULD_RUN)
    assert not first_line(result).startswith("Delivered:")
    assert json.loads((result.output / "report.json").read_text())["not_done"][0] == WOULD_RUN
    assert html.escape(WOULD_RUN[1:]).replace("x27", "39") in (result.output / "report.html").read_text()


@pytest.mark.parametrize("quiet", [[], ["--quiet"]])
def test_the_command_ends_with_a_code_of_its_own(optimize, network_file, tmp_path, capsys, quiet):
    words = [str(network_file), "--output", str(tmp_path / "out"), "--passes", "quantize_weights"]
    assert main([*words, *quiet]) == 7
    out, err = capsys.readouterr()
    assert WOULD_RUN in (err if quiet else out)
    assert (tmp_path / "out" / "model.onnx").is_file()


def test_the_default_recipe_asks_for_nothing_by_name(optimize):
    result = optimize()
    assert not result.report.not_done
    assert "quantize refused: needs calibration data" in first_line(result) or result.status == "kept_original"


def test_what_the_users_own_pass_could_not_do_is_told_with_the_reason(optimize):
    assert optimize(passes=[Picky()]).report.not_done == ("the pass picky was not done: it is too small",)
    (said,) = optimize(passes=[Picky(breaks=True)]).report.not_done
    assert said == "the pass picky failed: KeyError: 'w'; its changes were dropped"
    assert first_line(optimize(passes=[Picky(breaks=True)])).count(said) == 1


def test_recovery_that_finds_nothing_to_repair_is_no_unmet_request(optimize):
    result = optimize(passes=[QuantizeWeights(dtype="int8"), Helper()], allow_worse=True)
    assert not result.report.not_done


def test_where_no_form_of_a_pass_would_run_the_recipe_of_the_target_is_named(optimize, images):
    result = optimize(passes=["reduce_precision"], data=images)
    (said,) = result.report.not_done
    assert said.endswith("(--recipe int8 would run)")
