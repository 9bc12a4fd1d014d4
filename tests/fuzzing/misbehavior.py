"""Command lines that do what no run may do, and some that do well: what trials make of them is tested."""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path

import onnx
from onnx import numpy_helper

from mutants.mutant import MODEL_FILE, Mutant
from mutants.pipelines import OUTPUT, Pipeline
from mutants.seeds import seeds
from mutants.trial import attempt


def _deliver(change=lambda model: None, **report):
    """Write an output folder with the model, changed."""
    Path(OUTPUT).mkdir()
    model = onnx.load(MODEL_FILE)
    change(model)
    onnx.save(model, Path(OUTPUT, MODEL_FILE))
    Path(OUTPUT, "report.json").write_text(json.dumps({"status": "delivered", **report}))
    return 0


def _refuse(text="error: it is no good\nfix: take another\n", code=3):
    os.write(2, text.encode())
    return code


def _scale_a_weight(model):
    tensor = model.graph.initializer[0]
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 1.1, tensor.name))


def _halve_the_output(model):
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    last = model.graph.node[-2]  # a product, before the last operator
    for name in last.input[1:]:
        half = numpy_helper.to_array(weights[name])[..., :2]
        weights[name].CopyFrom(numpy_helper.from_array(half, name))
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    model.graph.output[0].type.tensor_type.ClearField("shape")


def _turn_the_classes(model):
    for tensor in model.graph.initializer[2:]:  # what makes the classes of the features
        tensor.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(tensor), tensor.name))


def _rename(model):
    model.graph.node[-1].output[0] = model.graph.output[0].name = "another"


def _leave_scratch():
    Path("tmp", "graphpress-1").mkdir()
    return _refuse()


def _half_written():
    Path(OUTPUT).mkdir()
    return _refuse()


def _raise():
    raise ValueError("of our own")


def _spill():
    Path("elsewhere").write_text("x")
    return _deliver()


COMMANDS = {
    "refuses": lambda: _refuse(),
    "delivers": _deliver,
    "keeps": lambda: _deliver(status="kept_original"),
    "misses the budget and says so": lambda: _deliver(status="budget_not_met") or 4,
    "aborts": os.abort,
    "raises": _raise,
    "hangs": lambda: time.sleep(60),
    "eats memory": lambda: len(bytearray(64 << 30)),
    "is a bug": lambda: _refuse("error: unexpected ValueError\n", 1),
    "prints control characters": lambda: _refuse("error: the name \x1b[2J\n"),
    "says two errors": lambda: _refuse("error: a\nerror: b\n"),
    "says nothing": lambda: _refuse(""),
    "leaves scratch": _leave_scratch,
    "leaves an output": _half_written,
    "writes elsewhere": _spill,
    "delivers other numbers": lambda: _deliver(_scale_a_weight),
    "delivers another shape": lambda: _deliver(_halve_the_output),
    "renames an output": lambda: _deliver(_rename),
    "delivers no model": lambda: _deliver(lambda model: model.graph.node.pop()),
    "breaks its promise": lambda: _deliver(verdict={"drop": 0.5, "max_drop": 0.25}),
    "lies": lambda: _deliver(_turn_the_classes, metric_name="agreement", verdict={"drop": 0.0, "max_drop": 0.25}),
}


def verdict_on(behavior: str) -> tuple[str, str]:
    """Of a command line that behaves so, given a sound model."""
    contents, files = seeds()["external"]
    with tempfile.TemporaryDirectory() as folder:
        verdict = attempt(
            Mutant("external", (), contents, files),
            Pipeline((), lossless=behavior != "lies"),
            Path(folder),
            command=lambda words: COMMANDS[behavior](),
            seconds=2.0 if behavior == "hangs" else 60.0,
        )
    return verdict.kind, verdict.why
