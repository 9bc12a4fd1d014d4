"""The time limit holds inside passes, their evaluation and training; what was done before it stays."""

import time
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import pytest

import graphpress
from graphpress.deadline import PASSES, TIMING, VERDICTS, WHOLE, Deadline, OutOfTimeError, TimedProgress
from graphpress.manager.contract import Context, Outcome, Pass
from graphpress.passes.quantize.quantize_weights import QuantizeWeights
from graphpress.passes.training.distill import Distill
from graphpress.progress import Silent

LIMIT = 8.0


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
def optimize(network_file, tmp_path):
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

    end = time.monotonic() + 0.02
    progress = TimedProgress(Silent(), lambda: end)
    loop = iter(progress.track(slow(), "counting"))
    assert next(loop) == 0
    with pytest.raises(OutOfTimeError):
        next(loop)
    assert list(TimedProgress(Silent(), partial(Deadline(0.0).at, PASSES)).track(slow(), "counting")) == [0, 1, 2]


def test_each_phase_leaves_those_behind_it_what_they_will_take():
    slow = Deadline(0.0, 20.0, scoring=2.0, opening=1.0)
    ends = [slow.at(phase) for phase in (PASSES, VERDICTS, TIMING, WHOLE)]
    assert ends == sorted(ends)
    assert ends[1] - ends[0] >= slow.scoring
    assert ends[3] - ends[2] >= slow.scoring + slow.opening
    quick = Deadline(0.0, 200.0)
    assert [quick.at(phase) for phase in (PASSES, VERDICTS, WHOLE)] == [120, 170, 200]


def test_what_opening_and_scoring_took_is_kept_for_delivery(optimize, images, monkeypatch):
    kept = []
    deliver = graphpress.driver.api.deliver

    def observed(job, *arguments):
        kept.append(job.config.deadline)
        return deliver(job, *arguments)

    monkeypatch.setattr("graphpress.driver.api.deliver", observed)
    optimize(passes="cleanup", data=images)
    assert kept[0].scoring > 0
    assert kept[0].opening > 0
    assert kept[0].at(TIMING) < kept[0].at(WHOLE)


def test_a_training_takes_no_longer_than_the_run_has():
    began = time.monotonic()
    minutes = partial(Distill(minutes=30)._minutes, began)
    assert minutes(Deadline(began)) == 30
    assert 0 < minutes(Deadline(began, 60.0)) < 0.6
    assert Distill(steps=10**6)._minutes(began, Deadline(began, 60.0)) < 0.6
    assert Distill(steps=10)._minutes(began, Deadline(began)) is None
