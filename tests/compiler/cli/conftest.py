"""A stand-in for the compiler behind the command line: it records what it was asked and gives a made-up report."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphpress.manager.records import PassRecord, RefusalRecord, SpeedVerdict, Verdict
from graphpress.report.records import Figures, Report


@dataclass
class FakeApi:
    """Set ``error``, ``status`` or ``chatter`` before calling the command line; look at ``calls`` afterwards."""

    status: str = "delivered"
    error: BaseException | None = None
    chatter: str = ""
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def run(self, model, options, progress):
        self.calls.append((model, vars(options)))
        print(self.chatter, end="")
        list(progress.track(range(3), "working"))
        if self.error is not None:
            raise self.error
        return FakeResult(report(self.status), Path("out"), self.status, [])


@dataclass
class FakeResult:
    report: Report
    output: Path
    status: str
    files: list[Path]


def report(status="delivered", **changes):
    settings = {
        "model": "m.onnx",
        "target": "cpu",
        "backend": "onnxruntime",
        "metric_name": "top1",
        "baseline": Figures(metric=0.91, latency_ms=1.2, bytes=4_000_000, parameters=1_000_000, macs=50_000, nodes=52),
        "result": Figures(metric=0.908, latency_ms=0.6, bytes=1_000_000, parameters=1_000_000, macs=50_000, nodes=40),
        "passes": (
            PassRecord(name="fold_batch_norm", status="applied", seconds=0.1, changes=12, nodes=40),
            PassRecord(name="prune", status="rolled_back", seconds=2.0, notes=("top1 fell by 3.00 points",)),
        ),
        "refusals": (RefusalRecord(pass_name="quantize", where="/head", why="no integer kernel", fix="leave it"),),
        "verdict": Verdict(drop=0.002, low=-0.001, high=0.005, samples=5000, max_drop=0.01),
        "speed": SpeedVerdict(ratio=0.5, low=0.48, high=0.52, rounds=100),
        "dropped_for_worse": ("fuse_swish",),
        "advice": ("--max-drop 0.03 would take it", "distill behind prune wins accuracy back"),
    }
    return Report(status=status, **settings | changes)


@pytest.fixture
def make_report():
    return report


@pytest.fixture
def api(monkeypatch):
    fake = FakeApi()
    module = ModuleType("graphpress.driver.api")
    module.run = fake.run
    monkeypatch.setitem(sys.modules, "graphpress.driver.api", module)
    return fake


@pytest.fixture
def model_file(tmp_path):
    """A small network on disk: Conv, Relu, pooling, Gemm."""
    random = np.random.default_rng(0)
    weights = {
        "w": random.standard_normal((8, 3, 3, 3), np.float32),
        "g": random.standard_normal((8, 6), np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "g"], ["y"], name="head"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 6])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = tmp_path / "small.onnx"
    onnx.save(model, path)
    return path
