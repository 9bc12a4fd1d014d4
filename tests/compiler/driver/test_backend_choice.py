"""Of what several backends make of a model the faster is delivered, and what keeps one from competing is told."""

import os
import signal
import time

import numpy as np
import pytest

import graphpress
from graphpress import plugins
from graphpress.backend import Availability
from graphpress.backends.onnxruntime.backend import OnnxRuntimeBackend
from graphpress.backends.tvm.backend import TvmBackend
from graphpress.errors import ModelError
from graphpress.ir import to_proto
from graphpress.manager import registry
from graphpress.models import build
from graphpress.report.sentences import contest, outcome
from graphpress.runtime import PairedTiming
from graphpress.runtime.measure import _paired, _time

NEVER_SLOW = 0.0
SLOW = 0.003


def timed_briefly(first, second):
    return _paired([(_time(first, 1), _time(second, 1)) for _ in range(5)])


class PacedArtifact:
    """Takes a while longer than ONNX Runtime, beside a file of its own."""

    def __init__(self, artifact, delay, out, sign=1.0, fault=lambda feed: None):
        self._artifact, self._delay, self._sign, self._fault = artifact, delay, sign, fault
        (out / "library.so").write_bytes(b"code")
        self.files = [*artifact.files, out / "library.so"]

    def run(self, feed):
        time.sleep(self._delay)
        self._fault(feed)
        return {name: self._sign * array for name, array in self._artifact.run(feed).items()}

    @property
    def bytes(self):
        return self._artifact.bytes

    def findings(self):
        return self._artifact.findings()


class PacedBackend(OnnxRuntimeBackend):
    """ONNX Runtime at a pace of its own; keeps count of what it was asked to compile."""

    def __init__(self, delay=NEVER_SLOW, sign=1.0, error=None, available=None, fault=lambda feed: None):
        self.delay, self.sign, self.error, self.fault, self.compiled = delay, sign, error, fault, 0
        self.state = available or Availability(True, "here")

    def available(self):
        return self.state

    def compile(self, prepared, options, out):
        self.compiled += 1
        if self.error is not None:
            raise self.error
        return PacedArtifact(super().compile(prepared, options, out), self.delay, out, self.sign, self.fault)


@pytest.fixture
def optimize(tmp_path, monkeypatch, network_file, images, rivals):
    """Run for a target whose own backend is slow, and whose rival is given; names what was delivered."""
    monkeypatch.setattr("graphpress.driver.choice.compare_latency", timed_briefly)
    monkeypatch.setattr("graphpress.driver.contest.LEAST_SECONDS", 0.0)
    (tmp_path / "two.toml").write_text('like = "cpu"\nbackend = "own"\nrivals = ["rival"]\n')
    instances = {}
    for name in ("own", "rival"):
        monkeypatch.setitem(registry.OWN_BACKENDS, name, f"{__name__}:{name}")
    plugins._entries.cache_clear()
    monkeypatch.setattr("graphpress.driver.config.load_backend", lambda name: instances[name])

    def run(rival, own=None, **options):
        instances.update(own=own or PacedBackend(SLOW), rival=rival)
        options = {"target": tmp_path / "two.toml", "passes": "cleanup", "threads": 1, **options}
        return graphpress.optimize(network_file, output=tmp_path / f"out{len(list(tmp_path.iterdir()))}", **options)

    yield run
    plugins._entries.cache_clear()


def test_the_faster_is_delivered_and_says_so(optimize):
    result = optimize(PacedBackend())
    own, rival = result.report.backends
    assert (result.report.backend, own.delivered, rival.delivered) == ("rival", False, True)
    assert rival.high < 1
    assert own.latency_ms > rival.latency_ms
    assert {"model.onnx", "library.so"} <= {file.name for file in result.files}
    assert "compiled by rival (" in outcome(result.report)
    assert contest(result.report) == []


def test_the_slower_is_not_and_the_report_says_by_how_much(optimize):
    result = optimize(PacedBackend(3 * SLOW))
    assert result.report.backend == "own"
    (sentence,) = contest(result.report)
    assert "what rival compiled is not delivered: not surely faster (" in sentence


@pytest.mark.parametrize(
    ("rival", "why"),
    [
        (
            PacedBackend(available=Availability(False, "is not installed", "pip install it")),
            "not installed (pip install",
        ),
        (PacedBackend(error=ModelError("Slice has no kernels", where="node /s", fix="use another")), "node /s: Slice"),
        (PacedBackend(error=ModelError("is open", where="x", fix="--input-shape x=1x3")), "open (--input-shape x=1x3)"),
        (PacedBackend(error=ZeroDivisionError("division")), "it failed (ZeroDivisionError: division)"),
        (PacedBackend(error=MemoryError()), "memory ran out"),
        (PacedBackend(sign=-1.0), "not what the input model computes"),
    ],
    ids=["unavailable", "refusing", "refusing with a way out", "broken", "out of memory", "wrong"],
)
def test_what_keeps_a_rival_from_competing_is_a_note_and_no_failure(optimize, rival, why):
    result = optimize(rival)
    assert (result.report.backend, result.report.not_done, result.report.failures) == ("own", (), ())
    (sentence,) = contest(result.report)
    assert sentence.startswith("not compiled by rival: ")
    assert why in sentence


def crash(feed):
    os.kill(os.getpid(), signal.SIGSEGV)


def crash_on_many(feed):
    if len(feed["input"]) > 1:
        crash(feed)


@pytest.mark.parametrize("fault", [crash, crash_on_many])
def test_one_that_crashes_ends_itself_and_not_the_run_and_the_first_line_says_so(optimize, images, fault):
    """At once, or only on samples of the user's that no check has seen."""
    rival = PacedBackend(fault=fault)
    report = optimize(rival, data=images, passes="quantize", max_drop=None, allow_worse=True, threads=2).report
    assert (report.backend, report.status) == ("own", "delivered")
    assert outcome(report).startswith("the backend rival failed: it crashed (")
    assert "died of SIGSEGV" in outcome(report)
    assert "own compiled the result" in outcome(report)


def test_one_that_does_not_come_to_an_end_is_given_up(optimize, monkeypatch):
    rival = PacedBackend(fault=lambda feed: time.sleep(60))
    began = time.monotonic()
    report = optimize(rival, time_limit=4.0).report
    assert time.monotonic() - began < 60
    assert report.backend == "own"
    assert "not done when the time limit left no more" in contest(report)[0]


def test_a_faster_one_beyond_the_accuracy_budget_is_not_delivered(optimize, images):
    """Its own answers are scored, not those of what simulates it."""
    data = {**images, "labels": np.zeros(64, np.int64)}
    own = PacedBackend(SLOW)
    spoiled = PacedBackend(sign=-1.0)
    result = optimize(spoiled, own, data=data, passes="quantize", max_drop=0.5, metric="agreement", allow_worse=True)
    assert result.report.backend == "own"
    assert "beyond the budget" in contest(result.report)[0]


def test_an_unchanged_model_is_delivered_with_what_makes_it_faster(optimize):
    result = optimize(PacedBackend(), passes="eliminate_identity")
    assert (result.status, result.report.backend) == ("delivered", "rival")


def test_a_backend_that_is_asked_for_by_name_has_no_rivals(optimize):
    rival = PacedBackend()
    assert optimize(rival, backend="own").report.backends == ()
    assert rival.compiled == 0


def test_without_time_nothing_more_is_compiled(optimize, monkeypatch):
    monkeypatch.setattr("graphpress.driver.contest.LEAST_SECONDS", 1e6)
    rival = PacedBackend()
    assert "the time limit left no time" in contest(optimize(rival, time_limit=60.0).report)[0]
    assert rival.compiled == 0


def test_a_replay_delivers_what_the_recorded_run_did(optimize):
    recorded = optimize(PacedBackend())
    again = optimize(PacedBackend(3 * SLOW), passes=None, recipe=recorded.output / "manifest.json")
    assert again.report.backend == "rival"
    assert again.report.changed_outputs == ()
    kept = optimize(PacedBackend(3 * SLOW))
    rival = PacedBackend()
    assert optimize(rival, passes=None, recipe=kept.output / "manifest.json").report.backend == "own"
    assert rival.compiled == 0


@pytest.mark.skipif(not TvmBackend().available().works, reason="needs graphpress[tvm] and a C compiler")
def test_the_library_of_kernels_is_delivered_beside_the_model_and_a_replay_writes_the_same(
    tmp_path, monkeypatch, rivals
):
    monkeypatch.setattr("graphpress.driver.choice.compare_latency", timed_briefly)
    monkeypatch.setattr("graphpress.driver.choice._duel", lambda *_: PairedTiming(2.0, 1.0, 0.5, 0.4, 0.6, 3))
    model = build("resnet", depth=8, stem="cifar", width=8, image=16)
    images = {"input": np.random.default_rng(0).normal(size=(16, 3, 16, 16)).astype(np.float32)}
    options = {"data": images, "max_drop": None, "allow_worse": True, "threads": 1}
    result = graphpress.optimize(to_proto(model), passes="fuse,quantize", output=tmp_path / "out", **options)
    assert (result.report.backend, result.status) == ("tvm", "delivered")
    assert {"model.onnx", "libmodel.so", "weights.bin"} <= {file.name for file in result.files}
    kernels = {name: kernel for kernel in result.report.kernels for name in kernel.nodes[:1]}
    convolutions = [layer for layer in result.report.layers if layer.op == "Conv"]
    assert convolutions
    assert all(kernels[layer.name].peak_share > 0 and layer.seconds for layer in convolutions)
    assert set(result.report.memory) == {"weights", "intermediate values"}
    again = graphpress.optimize(
        to_proto(model), recipe=result.output / "manifest.json", output=tmp_path / "again", data=images
    )
    assert again.report.changed_outputs == ()
