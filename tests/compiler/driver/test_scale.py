"""The whole job takes work in proportion to the graph: cells, attention with shape arithmetic, If in If."""

from functools import partial

import pytest

import graphpress
from graphpress.ir import count_nodes, load, save
from graphpress.models import build
from graphpress.runtime import PairedTiming

SIZES = {
    "nas": ({"nodes": 100}, {"nodes": 400}),
    "gpt": ({"layers": 1, "width": 8, "heads": 2}, {"layers": 4, "width": 8, "heads": 2}),
    "branches": ({"nodes": 100}, {"nodes": 400}),
}
"""Sizes of a small graph of a family, and of one of about four times as many nodes."""


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Runs a whole job on a file, without timing its result."""
    untimed = PairedTiming(1.0, 1.0, 1.0, 1.0, 1.0, 1)
    monkeypatch.setattr("graphpress.driver.choice.compare_latency", lambda *calls, **settings: untimed)

    def run(file, passes):
        return graphpress.optimize(file, passes=passes, output=tmp_path / "out", force=True, threads=1)

    return run


@pytest.mark.parametrize("family", SIZES)
def test_a_job_takes_work_in_proportion_to_the_graph(job, work, tmp_path, family):
    files = [save(build(family, **sizes), tmp_path / f"{index}.onnx")[0] for index, sizes in enumerate(SIZES[family])]
    small, large = (count_nodes(load(file)) for file in files)
    job(files[0], "cleanup,fuse")  # what is imported and looked up once
    calls = [work(partial(job, file, "cleanup,fuse")) for file in files]
    assert calls[1] / calls[0] < 1.1 * large / small


@pytest.mark.parametrize("family", ["resnet", "branches"])
def test_a_graph_is_made_of_the_file_once(job, tmp_path, monkeypatch, family):
    """Sessions, checks and the report ask the message, or the graph that is there."""
    made, deserialize = [], graphpress.ir.files.onnx_ir.serde.deserialize_model

    def count(proto):
        made.append(proto)
        return deserialize(proto)

    monkeypatch.setattr(graphpress.ir.files.onnx_ir.serde, "deserialize_model", count)
    file = save(build(family), tmp_path / "model.onnx")[0]
    made.clear()
    job(file, "cleanup")
    assert len(made) == 1
