"""Large models: of the sessions of a run, only one is loaded at a time; nothing else changes."""

import weakref
from functools import partial
from importlib import import_module

import onnx
import pytest

import graphpress
from graphpress.runtime import compare_alone, compare_latency, session

MODULES = [import_module(f"graphpress.{name}") for name in ("runtime.session", "driver.choice", "evaluation.evaluate")]


@pytest.fixture
def optimize(network_file, images, tmp_path, monkeypatch):
    """Run on the small network and an Identity, with short timing."""
    proto = onnx.load(network_file)
    proto.graph.node.insert(0, onnx.helper.make_node("Identity", ["input"], ["copied"]))
    proto.graph.node[1].input[0] = "copied"
    file = tmp_path / "net.onnx"
    onnx.save(proto, file)
    monkeypatch.setattr("graphpress.driver.choice.compare_latency", partial(compare_latency, seconds=0.2))
    monkeypatch.setattr("graphpress.driver.choice.compare_alone", partial(compare_alone, seconds=0.2))

    def run(recipe, output):
        options = {"threads": 1, "allow_worse": True, "max_drop": None}
        return graphpress.optimize(file, data=images, output=tmp_path / output, recipe=recipe, **options)

    return run


@pytest.fixture
def loaded(monkeypatch):
    """How many sessions were loaded already, at each load."""
    alive, counts, opened = list[weakref.ref](), list[int](), session._open

    def count(*arguments):
        counts.append(sum(ref() is not None for ref in alive))
        made = opened(*arguments)
        alive.append(weakref.ref(made[0]))
        return made

    monkeypatch.setattr(session, "_open", count)
    return counts


@pytest.mark.parametrize("recipe", ["cleanup", "int8"])
def test_one_session_at_a_time(optimize, loaded, monkeypatch, recipe):
    usual = optimize(recipe, "usual")
    assert max(loaded) > 0
    loaded.clear()
    for module in MODULES:
        monkeypatch.setattr(module, "KEPT_BYTES", 0)
    alone = optimize(recipe, "alone")
    assert loaded
    assert max(loaded) == 0
    assert [file.name for file in alone.files] == [file.name for file in usual.files]
    assert (alone.output / "model.onnx").read_bytes() == (usual.output / "model.onnx").read_bytes()
    assert alone.report.result.metric == usual.report.result.metric
    assert alone.report.speed.rounds >= 15


def test_outputs_that_are_large_are_held_a_few_at_a_time(optimize, loaded, monkeypatch):
    for module in MODULES:
        monkeypatch.setattr(module, "KEPT_BYTES", 0)
    optimize("cleanup", "once")
    before = len(loaded)
    monkeypatch.setattr(MODULES[-1], "AHEAD_BYTES", 1)
    optimize("cleanup", "often")
    assert len(loaded) > before
    assert max(loaded) == 0
