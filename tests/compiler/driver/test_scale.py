"""The whole job takes work in proportion to the graph: cells, attention with shape arithmetic, If in If."""

from functools import partial

import pytest

import graphpress
from graphpress.evaluation import score_model
from graphpress.ir import count_nodes, load, save, to_proto
from graphpress.models import build
from graphpress.runtime import PairedTiming
from graphpress.runtime.pairs import LEAST_PAIRS, MOST_PAIRS

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

    def run(file, passes, **options):
        return graphpress.optimize(file, passes=passes, output=tmp_path / "out", force=True, threads=1, **options)

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


@pytest.mark.parametrize(
    ("family", "passes", "count"),
    [("mobilenet_v3", "cleanup", 4), ("bert", "quantize_weights{dtype=int8}", 6), ("bert", "cleanup,fuse", 4)],
)
def test_few_sessions_are_loaded(job, tmp_path, monkeypatch, family, passes, count):
    """The input and the artifact, of lossless passes their result, else, to see its types, the graph that runs; and one
    that is profiled, for the times of the layers. Of a lossy result also the two that tell the error of each layer.

    Beside those are only the fresh ones for timing.
    """
    monkeypatch.setattr("graphpress.driver.choice.renew", lambda *runs: None)
    loaded, opened = [], graphpress.runtime.session._open

    def noted(*arguments):
        loaded.append(arguments)
        return opened(*arguments)

    monkeypatch.setattr(graphpress.runtime.session, "_open", noted)
    file = save(build(family), tmp_path / "model.onnx")[0]
    result = job(file, passes, allow_worse=True)
    assert result.status == "delivered"
    assert {layer.became for layer in result.report.layers if layer.op == "Conv"} <= {"float32"}
    assert len(loaded) == count


@pytest.mark.parametrize(("allow_worse", "calls"), [(True, LEAST_PAIRS), (False, MOST_PAIRS)])
@pytest.mark.parametrize("passes", ["cleanup", "quantize_weights{dtype=int8}"])
def test_only_timing_that_decides_is_prolonged(tmp_path, monkeypatch, passes, allow_worse, calls):
    timed = []

    def close(*calls, **settings):
        timed.append(settings)
        ratio = (0.99, 1.10)[len(timed) % 2]
        return PairedTiming(1.0, ratio, ratio, ratio, ratio, 15)

    monkeypatch.setattr("graphpress.driver.choice.compare_latency", close)
    file = save(build("bert"), tmp_path / "model.onnx")[0]
    graphpress.optimize(file, passes=passes, output=tmp_path / "out", threads=1, max_drop=None, allow_worse=allow_worse)
    assert len(timed) == calls


@pytest.mark.parametrize("passes", ["quantize", "cleanup,quantize,cleanup", "quantize,correct_bias,fuse"])
@pytest.mark.parametrize("parts", [(), ("calibration", "selection", "evaluation")])
def test_nothing_is_scored_twice_on_the_same_samples(network_file, images, tmp_path, monkeypatch, passes, parts):
    """The delivered form has its figure from the gate where that measured the very same on the same samples."""
    scored = []

    def noted(model, samples, *rest):
        scored.append((to_proto(model).SerializeToString(deterministic=True), samples))
        return score_model(model, samples, *rest)

    for module in ("graphpress.driver.job", "graphpress.manager.evaluator"):
        monkeypatch.setattr(f"{module}.score_model", noted)
    data = dict.fromkeys(parts, images) if parts else images
    result = graphpress.optimize(
        network_file, passes=passes, data=data, output=tmp_path / "out", threads=1, max_drop=None, allow_worse=True
    )
    assert result.status == "delivered"
    assert scored
    assert len({(content, id(samples)) for content, samples in scored}) == len(scored)
