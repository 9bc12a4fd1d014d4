"""The streaming runner: right values, every sample once, memory independent of their number."""

import subprocess
import sys
import weakref

import numpy as np
import onnx.parser
import pytest
from onnx import numpy_helper

from graphpress.errors import DataError
from graphpress.ir import from_proto, load, save
from graphpress.models import build
from graphpress.observation import MinMaxObserver, observe, stream
from graphpress.runtime import Session


class Keep:
    """Keeps everything, to see what an observer is shown."""

    def __init__(self):
        self.batches = []

    def update(self, array):
        self.batches.append(np.array(array))

    @property
    def whole(self):
        return np.concatenate(self.batches)


@pytest.fixture(scope="module")
def network():
    return build("resnet", depth=8, stem="cifar", width=4, image=8, classes=4)


def test_an_input_with_a_default_that_nobody_feeds_shows_it():
    default = np.full((1, 3, 8, 8), 7, np.float32)
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[1,3,8,8] x, float[1,3,8,8] d) => (float[1,3,8,8] y)'
        " { y = Add (x, d) }"
    )
    model.graph.initializer.append(numpy_helper.from_array(default, "d"))
    seen = {"d": Keep(), "y": Keep()}
    observe(from_proto(model), seen, [{"x": default}, {"x": default, "d": 2 * default}])
    np.testing.assert_array_equal(seen["d"].whole, np.concatenate([default, 2 * default]))
    np.testing.assert_array_equal(seen["y"].whole, np.concatenate([2 * default, 3 * default]))


def images(count, size=8, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 3, size, size)).astype(np.float32)


@pytest.mark.parametrize("sizes", [[1, 1, 1, 1, 1], [5], [2, 3], [70]])
def test_shows_inputs_inner_values_and_outputs_of_every_sample_once(network, sizes):
    inner = next(node for node in network.graph if node.op_type == "Relu").outputs[0].name
    names = ("input", inner, "logits")
    data = images(sum(sizes))
    watched = {name: Keep() for name in names}
    assert observe(network, watched, [{"input": part} for part in np.split(data, np.cumsum(sizes)[:-1])]) == len(data)
    expected = {"input": data, **Session(network, extra_outputs=[inner], optimization="basic").run({"input": data})}
    for name in names:
        np.testing.assert_allclose(watched[name].whole, expected[name], atol=1e-5)


def test_batches_are_cut_to_the_budget(network, monkeypatch):
    monkeypatch.setattr(stream, "MEMORY_BUDGET", 4 * 3 * 64 * 3)
    watched = Keep()
    observe(network, {"input": watched}, [{"input": images(10)}])
    assert [len(batch) for batch in watched.batches] == [1, 3, 3, 3]


def test_what_does_not_fit_together_is_observed_in_turns(network, monkeypatch):
    names = [output.name for node in network.graph for output in node.outputs if node.op_type in ("Conv", "Relu")]
    feeds = [{"input": images(2, seed=seed)} for seed in range(3)]
    together, apart = ({name: Keep() for name in names} for _ in range(2))
    observe(network, together, feeds)
    opened = []
    monkeypatch.setattr(stream, "MEMORY_BUDGET", 4 * 4 * 64 * 2)
    monkeypatch.setattr(stream, "Session", lambda *args, **options: opened.append(options) or Session(*args, **options))
    assert observe(network, apart, feeds) == 6
    assert 1 < len(opened) <= len(names) // 2 + 1
    for name in names:
        np.testing.assert_allclose(apart[name].whole, together[name].whole, atol=1e-5)


def test_data_that_can_be_read_once_is_observed_at_once(network, monkeypatch):
    monkeypatch.setattr(stream, "MEMORY_BUDGET", 1)
    watched = {"input": Keep(), "logits": Keep()}
    assert observe(network, watched, iter([{"input": images(3)}])) == 3
    assert len(watched["logits"].whole) == 3


def test_tensors_are_gone_before_the_model_runs_again(network, monkeypatch):
    shown = []

    class Watcher:
        def update(self, array):
            shown.append(weakref.ref(array))

    class Checking(Session):
        def run(self, feed):
            assert all(array() is None for array in shown)
            return super().run(feed)

    monkeypatch.setattr(stream, "Session", Checking)
    inner = next(node for node in network.graph if node.op_type == "Relu").outputs[0].name
    assert observe(network, {inner: Watcher()}, [{"input": images(1)} for _ in range(3)]) == 3
    assert len(shown) == 3


def test_a_fixed_batch_is_run_whole():
    fixed = build("resnet", depth=8, stem="cifar", width=4, image=8, classes=4, batch=5)
    watched = Keep()
    assert observe(fixed, {"input": watched}, [{"input": images(5)}, {"input": images(5)}]) == 10
    assert [len(batch) for batch in watched.batches] == [5, 5]


def test_two_values_may_share_an_observer(network):
    shared = MinMaxObserver()
    observe(network, {"input": shared, "logits": shared}, [{"input": images(3)}])
    logits = Session(network).run({"input": images(3)})["logits"]
    assert shared.high == pytest.approx(max(images(3).max(), logits.max()), rel=1e-5)


def test_the_model_is_not_changed(network, tmp_path):
    before = save(network, tmp_path / "a.onnx")[0].read_bytes()
    inner = network.graph[3].outputs[0].name
    observe(network, {inner: Keep()}, [{"input": images(1)}])
    assert save(network, tmp_path / "b.onnx")[0].read_bytes() == before


@pytest.mark.parametrize(
    ("feeds", "what"),
    [([], "empty"), ([{"input": images(2, size=9)}], "cannot run"), ([{"x": images(2)}], "cannot run")],
)
def test_data_that_does_not_fit_is_said(network, feeds, what):
    with pytest.raises(DataError, match=what):
        observe(network, {"logits": Keep()}, feeds)


PEAK = """
import resource, sys
import numpy as np
from graphpress.ir import load
from graphpress.manager.contract import Context
from graphpress.passes.quantize.quantize import Quantize
from graphpress.targets import load_target

class Images:
    def __iter__(self):
        random = np.random.default_rng(0)
        for _ in range({batches}):
            yield {{"input": random.normal(size=(16, 3, 224, 224)).astype(np.float32)}}

model = load({path!r})
outcome = Quantize().run(model, Context(target=load_target("cpu"), original=model, calibration=Images(), threads=2))
assert outcome.changes > 50
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_calibration_takes_the_same_memory_for_64_and_for_512_images(tmp_path):
    """A network of ResNet-50's depth and image size; a quarter of its width, so that the test ends in time."""
    path = tmp_path / "resnet50.onnx"
    save(build("resnet", depth=50, width=16, image=224, classes=1000, batch_norm=False), path)
    assert load(path)

    def peak(count):
        code = PEAK.format(batches=count // 16, path=str(path))
        return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)

    few, many = peak(64), peak(512)
    assert abs(many - few) < 0.05 * few, f"{few} KiB for 64 images, {many} KiB for 512"
