"""The error of each layer stands in the report, or the reason why it was not measured."""

from functools import partial

import pytest

import graphpress
from graphpress.errors import ModelError

HEADING = "the error of each layer was not measured: "


@pytest.fixture
def optimize(network_file, images, tmp_path):
    settings = {"threads": 1, "max_drop": None, "allow_worse": True, "recipe": "int8", "output": tmp_path / "out"}
    return partial(graphpress.optimize, network_file, data=images, **settings)


def reasons(result):
    return [note.removeprefix(HEADING) for note in result.report.notes if note.startswith(HEADING)]


def test_every_quantized_layer_has_one(optimize, tmp_path):
    result = optimize()
    rated = [layer for layer in result.report.layers if layer.became == "int8"]
    assert rated
    assert all(layer.sqnr is not None and 5 < layer.sqnr < 100 for layer in rated)
    assert "SQNR" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert reasons(result) == []


def test_a_lossless_result_has_none_to_tell_of(optimize):
    result = optimize(recipe="cleanup")
    assert {layer.sqnr for layer in result.report.layers} == {None}
    assert reasons(result) == []


def test_a_large_model_is_not_loaded_for_it(optimize, monkeypatch):
    monkeypatch.setattr("graphpress.driver.layer_errors.is_large", lambda size: True)
    assert "large" in reasons(optimize())[0]


def test_no_time_is_taken_for_it_that_is_not_there(optimize, monkeypatch):
    monkeypatch.setattr("graphpress.driver.layer_errors.LEAST_LEFT", 1.0)
    assert reasons(optimize(time_limit=60.0)) == ["there was no time left"]


def test_a_failure_of_it_is_none_of_the_run(optimize, monkeypatch):
    def fail(*_, **__):
        raise ModelError("ONNX Runtime does not like it")

    monkeypatch.setattr("graphpress.driver.layer_errors.layer_sqnr", fail)
    result = optimize()
    assert result.status == "delivered"
    assert reasons(result) == ["ONNX Runtime does not like it"]
