"""The time limit holds inside passes, their evaluation and training; what was done before it stays."""

import time
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import pytest

import graphpress
from graphpress.deadline import Deadline, OutOfTimeError, TimedProgress
from graphpress.manager.contract import Context, Outcome, Pass
from graphpress.passes.quantize.quantize_weights import QuantizeWeights
from graphpress.passes.training.distill import Distill
from graphpress.progress import Silent
from graphpress.runtime import compare_latency

LIMIT = 3.0


@dataclass(frozen=True)
class Endless(Pass):
    """Searches for an hour."""

    name: ClassVar[str] = "endless"
    lossless: ClassVar[bool] = False

    def run(self, model, context: Context):
        next(iter(model.graph)).doc_string = "half done"
        for _ in context.progress.track(range(36_000), "searching"):
            time.sleep(0.1)
        return Outcome(1)


@dataclass(frozen=True)
class EndlessRecovery(Endless):
    name: ClassVar[str] = "endless_recovery"
    recovers: ClassVar[bool] = True


@pytest.fixture
def optimize(network_file, tmp_path, monkeypatch):
    monkeypatch.setattr("graphpress.driver.choice.compare_latency", partial(compare_latency, seconds=0.05))
    return partial(graphpress.optimize, network_file, output=tmp_path / "out", allow_worse=True, time_limit=LIMIT)


def record(result, name):
    return next(record for record in result.report.passes if record.name == name)


def test_a_pass_in_the_middle_of_its_search_is_ended_and_what_was_done_before_stays(optimize):
    began = time.monotonic()
    result = optimize(passes=["cleanup", "fold_batch_norm", Endless()])
    assert time.monotonic() - began < 600  # not an hour
    assert record(result, "endless").status == "refused"
    assert "the time limit was reached" in str(result).splitlines()[0]
    assert record(result, "fold_batch_norm").changes


def test_recovery_that_runs_out_of_time_is_done_without(optimize):
    result = optimize(passes=[QuantizeWeights(dtype="int8"), EndlessRecovery()])
    assert record(result, "quantize_weights").status == "applied"
    assert record(result, "endless_recovery").status == "refused"
    assert (result.output / "model.onnx").read_bytes().count(b"half done") == 0


def test_loops_end_between_two_items():
    def slow():
        for item in range(3):
            yield item
            time.sleep(0.05)

    progress = TimedProgress(Silent(), time.monotonic() + 0.02)
    loop = iter(progress.track(slow(), "counting"))
    assert next(loop) == 0
    with pytest.raises(OutOfTimeError):
        next(loop)
    assert list(TimedProgress(Silent(), Deadline(0.0).at(0.5)).track(slow(), "counting")) == [0, 1, 2]


def test_a_training_takes_no_longer_than_the_run_has():
    began = time.monotonic()
    minutes = partial(Distill(minutes=30)._minutes, began)
    assert minutes(Deadline(began)) == 30
    assert 0 < minutes(Deadline(began, 60.0)) < 0.6
    assert Distill(steps=10**6)._minutes(began, Deadline(began, 60.0)) < 0.6
    assert Distill(steps=10)._minutes(began, Deadline(began)) is None
