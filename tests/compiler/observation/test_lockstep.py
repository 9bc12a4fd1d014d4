"""Two models in step: every wave shows what the whole models compute, however little memory there is."""

from dataclasses import replace

import numpy as np
import pytest

from graphpress.analysis.contraction import contraction_of
from graphpress.errors import DataError
from graphpress.ir import Editor, clone, constant, label
from graphpress.ir.encoding import Quantized, set_encoding
from graphpress.models import build
from graphpress.observation.lockstep import Lockstep, Pieces
from graphpress.observation.replay import ReplayOptions, Segment
from graphpress.observation.waves import can_wait, waves_of
from graphpress.runtime import Session


def images(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 3, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def network():
    return build("resnet", depth=8, stem="cifar", width=4, image=8, classes=4)


def anchors_of(model):
    return [node for node in model.graph if contraction_of(node) is not None]


def everything(model, feed):
    names = [label(value) for node in anchors_of(model) for value in (node.inputs[0], node.outputs[0])]
    return {**feed, **Session(model, extra_outputs=[name for name in names if name not in feed]).run(feed)}


def changed(network):
    copy = clone(network)
    edit = Editor(copy)
    for node in anchors_of(copy):
        edit.own_constant(node, 1, constant(node.inputs[1]) * np.float32(0.9))
    return copy


@pytest.mark.parametrize("budget", [1 << 30, 20_000, 0])
@pytest.mark.parametrize("cut", [[40], [7, 33], [10] * 4])
def test_every_wave_shows_what_the_whole_models_compute(network, budget, cut):
    data = images(40)
    feeds = [{"input": part} for part in np.split(data, np.cumsum(cut)[:-1])]
    model = changed(network)
    now, then = everything(model, {"input": data}), everything(network, {"input": data})
    waves = waves_of(model.graph, anchors_of(model))
    steps = Lockstep(model, waves, Pieces.of(model, feeds, 100), network, ReplayOptions(0, budget=budget))
    for wave, nodes in enumerate(waves):
        reads, writes = [label(node.inputs[0]) for node in nodes], [label(node.outputs[0]) for node in nodes]
        assert steps.can_show(wave, reads, writes)
        shown = list(steps.look(wave, reads, writes))
        for name in reads:
            np.testing.assert_allclose(np.concatenate([piece[name] for piece, _ in shown]), now[name], atol=1e-4)
        for name in writes:
            np.testing.assert_allclose(np.concatenate([piece[name] for _, piece in shown]), then[name], atol=1e-4)


def test_what_was_changed_shows_in_the_next_wave(network):
    model = clone(network)
    waves = waves_of(model.graph, anchors_of(model))
    steps = Lockstep(model, waves, Pieces.of(model, [{"input": images(4)}], 4), None, ReplayOptions(0))
    first, second = waves[0][0], waves[1][0]
    list(steps.look(0, [label(first.inputs[0])], ()))
    Editor(model).own_constant(first, 1, constant(first.inputs[1]) * 0)
    name = label(second.inputs[0])
    for piece, _ in steps.look(1, [name], ()):
        np.testing.assert_allclose(piece[name], everything(model, {"input": images(4)})[name], atol=1e-5)


def test_waves_hold_independent_layers(network):
    waves = waves_of(network.graph, anchors_of(network))
    assert sum(map(len, waves)) == len(anchors_of(network))
    place = {node: wave for wave, nodes in enumerate(waves) for node in nodes}
    for node in place:
        for other in place:
            if node is not other and not can_wait(other, node.outputs[0], {}):
                assert place[other] < place[node]


def test_a_layer_waits_for_what_it_is_told_to(network):
    shortcut = next(node for node in anchors_of(network) if len(waves_of(network.graph, [node])) == 1)
    last = anchors_of(network)[-1]
    assert can_wait(last, shortcut.outputs[0], {})
    assert not can_wait(shortcut, last.outputs[0], {})
    nodes = anchors_of(network)
    waves = waves_of(network.graph, nodes, {nodes[2]: nodes[1].outputs[0]})
    place = {node: wave for wave, found in enumerate(waves) for node in found}
    assert place[nodes[2]] > place[nodes[1]]


def test_values_that_are_not_final_are_not_shown(network):
    waves = waves_of(network.graph, anchors_of(network))
    steps = Lockstep(network, waves, Pieces.of(network, [{"input": images(2)}], 2), network, ReplayOptions(0))
    last = label(waves[-1][0].outputs[0])
    assert not steps.can_show(0, [last], ())
    assert not steps.can_show(0, (), [last])
    assert not steps.can_show(0, ["unheard of"], ())


def test_pieces_are_no_more_than_asked_for(network):
    feeds = [{"input": images(50, seed)} for seed in range(3)]
    pieces = list(Pieces.of(network, feeds, 70))
    assert sum(len(piece["input"]) for piece in pieces) == 70
    whole = np.concatenate([feed["input"] for feed in feeds])[:70]
    np.testing.assert_array_equal(np.concatenate([piece["input"] for piece in pieces]), whole)


def test_no_data_is_an_error(network):
    with pytest.raises(DataError, match="empty"):
        Pieces.of(network, [], 10)


def test_a_segment_computes_what_would_be_delivered(network):
    """An encoding rounds what its reader sees, and the value itself comes out as it is."""
    model = clone(network)
    node = anchors_of(model)[1]
    value, result = node.inputs[0], label(node.outputs[0])
    data = everything(model, {"input": images(2)})[label(value)]
    set_encoding(value, Quantized("uint8", (float(data.max()) / 3,), (0,)))
    rough = Segment(model, {label(value): data}, [result, label(value)], 1).run({label(value): data})
    np.testing.assert_array_equal(rough[label(value)], data)
    step = data.max() / 3
    rounded = np.clip(np.rint(data / step), 0, 255).astype(np.float32) * step
    exact = Segment(network, {label(value): data}, [result], 1).run({label(value): rounded.astype(np.float32)})
    np.testing.assert_allclose(rough[result], exact[result], atol=1e-4)


@pytest.mark.parametrize(("again", "how"), [(1, "fewer"), (3, "more")])
def test_data_that_changes_from_one_reading_to_the_next(network, again, how):
    class Changing:
        """Two samples when first read, others later."""

        readings = 0

        def __iter__(self):
            self.readings += 1
            yield from [{"input": images(1)}] * (2 if self.readings <= 2 else again)

    waves = waves_of(network.graph, anchors_of(network))
    steps = Lockstep(network, waves, replace(Pieces.of(network, Changing(), 9), samples=9), network, ReplayOptions(9))
    with pytest.raises(DataError, match=f"gives {how} samples"):
        list(steps.look(0, ["input"], ["input"]))
