"""Each node's own time, from ONNX Runtime's profile of the file that is delivered."""

import numpy as np
import pytest

import graphpress
from graphpress.backends.onnxruntime import kernel_times
from graphpress.backends.onnxruntime.kernel_times import CALLS, _medians, node_seconds
from graphpress.ir import save
from graphpress.models import build
from graphpress.runtime import Session


@pytest.fixture
def network():
    return build("resnet", depth=8, stem="cifar", width=8, image=32, classes=4)


def feed(count=1):
    return {"input": np.random.default_rng(0).normal(size=(count, 3, 32, 32)).astype(np.float32)}


def test_convolutions_are_known_by_their_own_names(network, tmp_path):
    file = save(network, tmp_path / "net.onnx")[0]
    seconds = node_seconds(file, feed(), threads=1)
    convolutions = {node.name for node in network.graph if node.op_type == "Conv"}
    assert convolutions <= seconds.keys()
    assert all(0 <= value < 1 for value in seconds.values())
    assert not list(tmp_path.glob("*.json"))


def test_the_median_is_over_the_calls_behind_the_first():
    times = [900, 10, 20, 30]
    events = [{"name": "model_loading_uri", "dur": 5}]
    for time in times:
        events += [{"name": "conv_nchwc_kernel_time", "dur": time}, {"name": "body_kernel_time", "dur": 1}]
        events += [{"name": "body_kernel_time", "dur": 2}, {"name": "model_run", "dur": 50}]
    assert _medians(events) == pytest.approx({"conv": 20e-6, "body": 3e-6})
    assert CALLS > 1


@pytest.mark.parametrize("options", [{"recipe": "cleanup"}, {"recipe": "int8", "allow_worse": True}])
def test_the_report_tells_the_time_of_the_layers(network, tmp_path, options):
    result = graphpress.optimize(network, data=feed(8), output=tmp_path / "out", max_drop=None, threads=1, **options)
    assert all(layer.seconds is not None for layer in result.report.layers if layer.op == "Conv")


def test_another_machine_has_no_times_here(network, tmp_path):
    result = graphpress.optimize(network, data=feed(4), target="arm64", recipe="cleanup", output=tmp_path / "out")
    assert all(layer.seconds is None for layer in result.report.layers)


def test_a_profile_that_found_no_room_gives_no_times(network, tmp_path, monkeypatch):
    file, cut = save(network, tmp_path / "model.onnx")[0], tmp_path / "profile.json"
    cut.write_text('[{"cat": "Session", "name": "model_run", "du', "utf-8")
    monkeypatch.setattr(Session, "end_profile", lambda self: cut)
    assert node_seconds(file, feed(), threads=1) == {}


def test_of_a_graph_too_large_for_a_table_no_profile_is_made(network, tmp_path, monkeypatch):
    monkeypatch.setattr(kernel_times, "MOST_NODES", 3)
    assert node_seconds(save(network, tmp_path / "model.onnx")[0], {}, threads=1) == {}
