"""The seam to backends: a candidate is prepared once, and an artifact may run in another place than this process."""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir
import pytest

from graphpress import Availability, Backend, BackendError, Findings, Prepared, load_target, optimize, save
from graphpress.backend import CompileOptions, runner_of
from graphpress.backends.onnxruntime.backend import OnnxRuntimeBackend
from graphpress.backends.tensorrt.backend import TensorRTBackend
from graphpress.cli.main import main
from graphpress.ir import clone, load
from graphpress.ir.qdq import materialize_qdq
from graphpress.manager import registry
from graphpress.runtime import InProcess, Session

SERVER = """
import json, sys, time
import numpy as np
from graphpress.runtime import Session

session = Session(sys.argv[1])
for line in sys.stdin:
    request = json.loads(line)
    feed = {name: np.array(array, dtype=np.float32) for name, array in request["feed"].items()}
    began = time.perf_counter()
    outputs = session.run(feed)
    answer = {"seconds": time.perf_counter() - began, "outputs": {name: a.tolist() for name, a in outputs.items()}}
    print(json.dumps(answer), flush=True)
"""


class Board:
    """Another process that runs a model, and times it by a clock of its own."""

    place = "board 7"

    def __init__(self, file):
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def _ask(self, feed):
        request = {"feed": {name: array.tolist() for name, array in feed.items()}}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def run(self, feed):
        return {name: np.array(array, dtype=np.float32) for name, array in self._ask(feed)["outputs"].items()}

    def measure(self, feeds, *, seconds):
        return [self._ask(feed)["seconds"] for feed in feeds for _ in range(3)]

    def close(self):
        self._process.communicate()


@dataclass
class BoardArtifact:
    """A model file on the board."""

    files: list[Path]
    runner: Board

    @property
    def bytes(self):
        return self.files[0].stat().st_size

    def run(self, feed):
        return self.runner.run(feed)

    def findings(self):
        return Findings(became={}, notes=["made for the board"])


class BoardBackend(Backend):
    """The least that a backend can be: Q/DQ nodes, run by another process; counts what it is asked."""

    def __init__(self):
        self.calls, self.boards = Counter(), []

    def available(self):
        return Availability(True, "board 7, firmware 1.0")

    def prepare(self, annotated, target):
        self.calls["prepare"] += 1
        delivered = clone(annotated)
        materialize_qdq(delivered)
        return Prepared(annotated, delivered, simulation=delivered, private=self.calls["prepare"])

    def compile(self, prepared, options, out):
        assert isinstance(prepared.private, int)
        self.calls["compile"] += 1
        files = save(prepared.delivered, out / "model.onnx")
        self.boards.append(Board(files[0]))
        return BoardArtifact(files, self.boards[-1])


@pytest.fixture
def board(monkeypatch):
    """The backend, registered under the name ``board``."""
    backend = BoardBackend()
    monkeypatch.setattr(registry, "load_backend", lambda name: backend)
    monkeypatch.setattr("graphpress.driver.config.load_backend", lambda name: backend)
    yield backend
    for each in backend.boards:
        each.close()


@pytest.fixture
def data(images, tmp_path):
    np.savez(tmp_path / "data.npz", **images)
    return tmp_path / "data.npz"


def test_a_backend_of_somebody_else_goes_through_end_to_end(board, network_file, data, tmp_path):
    result = optimize(
        network_file, backend="board", target="arm64", recipe="int8", data=data, max_drop=None, output=tmp_path / "out"
    )
    report = result.report
    assert (report.status, report.backend) == ("delivered", "board")
    assert "QuantizeLinear" in {node.op_type for node in load(tmp_path / "out" / "model.onnx").graph}
    assert report.result.metric is not None
    assert report.result.latency_ms > 0
    assert report.baseline.latency_ms is None
    assert report.speed is None
    assert "made for the board" in report.notes
    assert any("latency was measured on board 7" in note for note in report.notes)


def test_a_runner_without_a_clock_leaves_latency_to_the_model(board, network_file, data, tmp_path, monkeypatch):
    monkeypatch.setattr(Board, "measure", lambda *_, **__: [])
    report = optimize(
        network_file, backend="board", target="raspberrypi5", recipe="int8", data=data, max_drop=None,
        output=tmp_path / "out",
    ).report  # fmt: skip
    assert report.result.latency_ms is None
    assert report.modelled_ms > 0
    assert any("board 7, which says nothing of latency" in note for note in report.notes)


def test_each_candidate_is_prepared_once(board, network_file, data, tmp_path):
    """The metric gate, the comparison and the final figure share what was prepared."""
    optimize(
        network_file, backend="board", target="arm64", passes="quantize", data=data, max_drop=None,
        output=tmp_path / "out",
    )  # fmt: skip
    assert board.calls == {"prepare": 1, "compile": 1}


def test_the_input_model_is_prepared_once_where_nothing_better_is_found(board, network_file, data, tmp_path):
    result = optimize(network_file, backend="board", target="arm64", passes="eliminate_identity",
                      data=data, output=tmp_path / "out")  # fmt: skip
    assert result.status == "kept_original"
    assert board.calls == {"prepare": 1, "compile": 1}


def test_a_runner_gives_what_the_model_gives(network_file, images, tmp_path):
    board = Board(network_file)
    feed = {"input": images["input"][:2]}
    try:
        np.testing.assert_allclose(board.run(feed)["logits"], Session(network_file).run(feed)["logits"], rtol=1e-5)
    finally:
        board.close()


def test_who_measures():
    class Plain:
        def run(self, feed):
            return feed

    class Remote(Plain):
        runner = InProcess(lambda feed: feed)

    assert runner_of(Plain(), runs_here=False) is None
    here = runner_of(Plain(), runs_here=True)
    assert isinstance(here, InProcess)
    assert here.run({"x": np.ones(1)}) == {"x": np.ones(1)}
    assert len(here.measure([{}, {}], seconds=0.01)) > 1
    assert runner_of(Remote(), runs_here=False) is Remote.runner


def test_a_runner_that_fails_is_an_error_of_the_backend(board, network_file, data, tmp_path, monkeypatch):
    def lost(*_, **__):
        raise BackendError("the board does not answer", where="board 7", fix="switch it on")

    monkeypatch.setattr(Board, "measure", lost)
    with pytest.raises(BackendError, match="does not answer"):
        optimize(network_file, backend="board", target="arm64", passes="quantize", data=data, max_drop=None,
                 output=tmp_path / "out")  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_bench_times_an_artifact_in_its_place(board, network_file, capsys):
    words = ["bench", str(network_file), "--backend", "board", "--seconds", "0.1", "--json"]
    assert main(words) == 0
    (figures,) = json.loads(capsys.readouterr().out)
    assert figures["latency_ms"] > 0
    assert figures["ratio"] is None
    assert figures["detail"] == "board 7, firmware 1.0, on board 7"


# -- how often a graph is copied ------------------------------------------------------------------------------


@pytest.fixture
def copies(monkeypatch):
    """Counts copies of whole models."""
    count, real = Counter(), onnx_ir.Model.clone

    def counted(self, *arguments, **options):
        count["clone"] += 1
        return real(self, *arguments, **options)

    monkeypatch.setattr(onnx_ir.Model, "clone", counted)
    return count


@pytest.mark.parametrize(
    ("backend", "target", "preparing", "compiling"),
    [
        (OnnxRuntimeBackend(), "cpu", 1, 0),  # four before: each score and the compilation made its own
        (
            TensorRTBackend(),
            "jetson",
            2,
            3,
        ),  # eight before; a canonical and a delivered form, a weak one, two to be written
    ],
)
def test_a_candidate_is_copied_once_per_form(
    backend, target, preparing, compiling, network_file, copies, tmp_path, monkeypatch
):
    monkeypatch.setattr("graphpress.backends.tensorrt.backend.find_toolchain", lambda *_: None)
    model, chosen = load(network_file), load_target(target)
    prepared = backend.prepare(model, chosen)
    assert copies["clone"] == preparing
    assert prepared.simulation is prepared.delivered
    copies.clear()
    backend.compile(prepared, CompileOptions(chosen), tmp_path)
    assert copies["clone"] == compiling
