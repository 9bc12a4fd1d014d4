"""Ranges of activations: looked at only where there is something to quantize, remembered by content."""

import numpy as np
import onnx
import pytest

from graphpress.cache import ContentCache
from graphpress.ir import load, to_proto
from graphpress.manager.contract import Context
from graphpress.manager.prepare import prepare
from graphpress.passes.quantize.quantize import Quantize
from graphpress.targets import load_target

CONV = "(float[N,3,8,8] x) => (float[N,4,8,8] y) { y = Conv<pads=[1,1,1,1]>(x, w, b) }"


class Feeds:
    """Feeds with a fingerprint that count how often somebody goes through all of them."""

    def __init__(self):
        self.feeds = [{"x": np.random.default_rng(0).normal(size=(8, 3, 8, 8)).astype(np.float32)}]
        self.rounds = 0

    def __iter__(self):
        yield from self.feeds
        self.rounds += 1

    def fingerprint(self):
        return "normal"


@pytest.fixture
def external(build, weights, tmp_path):
    """A convolution with its weights in a file beside it."""
    proto = to_proto(build(CONV, w=weights.of(4, 3, 3, 3), b=weights.of(4)))
    file = tmp_path / "net.onnx"
    onnx.save(proto, file, save_as_external_data=True, size_threshold=0, location="weights.bin")
    return file


def ranges_of(file, feeds, folder):
    model = load(file)
    prepare(model, {})
    context = Context(target=load_target("cpu"), original=model, calibration=feeds, cache=ContentCache(folder))
    Quantize().run(model, context)
    return context.decisions["0.quantize.ranges"]


def test_what_was_observed_once_comes_from_the_cache(external, tmp_path):
    feeds = Feeds()
    first, second = (ranges_of(external, feeds, tmp_path / "cache") for _ in range(2))
    assert feeds.rounds == 1
    assert {name: tuple(one) for name, one in first.items()} == {name: tuple(one) for name, one in second.items()}


def test_the_cache_knows_external_weights_by_content(external, tmp_path):
    feeds, data = Feeds(), external.with_name("weights.bin")
    before = ranges_of(external, feeds, tmp_path / "cache")
    (2 * np.fromfile(data, np.float32)).tofile(data)
    after = ranges_of(external, feeds, tmp_path / "cache")
    assert feeds.rounds == 2
    assert after["y"] == pytest.approx([2 * one for one in before["y"]], rel=0.05)


def test_without_anything_to_quantize_the_data_is_not_looked_at(build):
    model, feeds = build("(int64[N] x) => (int64[N] y) { y = Add(x, x) }"), Feeds()
    outcome = Quantize().run(model, Context(target=load_target("cpu"), original=model, calibration=feeds))
    assert outcome.changes == feeds.rounds == 0
    assert "nothing was left to quantize" in outcome.notes[0]
