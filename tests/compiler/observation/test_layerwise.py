"""The layer-by-layer driver: every layer is shown what the whole models compute, however little memory there is."""

import doctest
from dataclasses import replace

import numpy as np
import pytest

from graphpress.analysis.linear import linear_op_of
from graphpress.errors import DataError
from graphpress.ir import Editor, clone, constant, label
from graphpress.ir.encoding import AffineEncoding, set_encoding
from graphpress.models import build
from graphpress.observation import LayerWalk, Pieces, Wanted, can_wait, layerwise, waves_of
from graphpress.observation.replay import Segment
from graphpress.runtime import Session


def images(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 3, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def network():
    return build("resnet", depth=8, stem="cifar", width=4, image=8, classes=4)


def layers_of(model):
    return [node for node in model.graph if linear_op_of(node) is not None]


def everything(model, feed):
    names = [label(value) for node in layers_of(model) for value in (node.inputs[0], node.outputs[0])]
    return {**feed, **Session(model, extra_outputs=[name for name in names if name not in feed]).run(feed)}


def changed(network):
    copy = clone(network)
    edit = Editor(copy)
    for node in layers_of(copy):
        edit.own_constant(node, 1, constant(node.inputs[1]) * np.float32(0.9))
    return copy


class Watched:
    """Keeps all that a layer is shown, then changes the layer."""

    def __init__(self, wants, change=lambda: None):
        self.wants, self.finish, self.pieces = wants, change, []

    def see(self, piece):
        self.pieces.append(piece)

    def whole(self, source, name):
        """A value over all pieces."""
        return np.concatenate([getattr(piece, source)[name] for piece in self.pieces])

    def result(self):
        return np.concatenate([piece.result for piece in self.pieces])


def own_values(node, *, result=False):
    return Wanted((label(node.inputs[0]),), (label(node.outputs[0]),), result)


def walked(walk, begin):
    """The tasks of a walk, in the order in which they were begun."""
    tasks = {}

    def remembered(node):
        tasks[node] = begin(node)
        return tasks[node]

    walk.run(remembered)
    return tasks


@pytest.mark.parametrize("budget", [1 << 30, 40_000, 0])
@pytest.mark.parametrize("cut", [[40], [7, 33], [10] * 4])
def test_every_layer_is_shown_what_the_whole_models_compute(network, budget, cut):
    data = images(40)
    feeds = [{"input": part} for part in np.split(data, np.cumsum(cut)[:-1])]
    model = changed(network)
    now, then = everything(model, {"input": data}), everything(network, {"input": data})
    waves = waves_of(model.graph, layers_of(model))
    walk = LayerWalk(model, waves, Pieces.of(model, feeds, 100), network, budget=budget)
    assert all(walk.can_show(node, own_values(node)) for node in layers_of(model))
    tasks = walked(walk, lambda node: Watched(own_values(node, result=True)))
    assert list(tasks) == [node for wave in waves for node in wave]
    for node, task in tasks.items():
        name, result = label(node.inputs[0]), label(node.outputs[0])
        np.testing.assert_allclose(task.whole("inputs", name), now[name], atol=1e-4)
        np.testing.assert_allclose(task.whole("reference", result), then[result], atol=1e-4)
        np.testing.assert_allclose(task.result(), now[result], atol=1e-4)


def test_what_was_changed_shows_in_the_next_wave(network):
    model = clone(network)
    first = waves_of(model.graph, layers_of(model))[0][0]

    def begin(node):
        zero = lambda: Editor(model).own_constant(first, 1, constant(first.inputs[1]) * 0)  # noqa: E731
        return Watched(Wanted((label(node.inputs[0]),)), zero if node is first else lambda: None)

    walk = LayerWalk(model, waves_of(model.graph, layers_of(model)), Pieces.of(model, [{"input": images(4)}], 4))
    tasks = walked(walk, begin)
    after = everything(model, {"input": images(4)})
    assert np.ptp(after[label(first.outputs[0])], axis=(0, 2, 3)).max() == 0
    for node, task in tasks.items():
        np.testing.assert_allclose(task.whole("inputs", label(node.inputs[0])), after[label(node.inputs[0])], atol=1e-4)


@pytest.mark.parametrize("budget", [1 << 30, 0])
def test_a_layer_may_become_two(network, budget):
    """As a decomposition makes them: the second computes the same value, and the walk goes on behind it."""
    model = clone(network)
    edit = Editor(model)

    def split(node):
        def change():
            outputs = constant(node.inputs[1]).shape[0]
            half = edit.add_constant_for(node, np.full((outputs, 1, 1, 1), 0.5, np.float32), "half")
            inner = edit.add_node(
                "Conv", node.inputs, {name: one.value for name, one in node.attributes.items()}, before=node
            )
            result = node.outputs[0]
            outer = edit.add_node("Conv", [inner.outputs[0], half], {"group": outputs}, after=inner)
            name = result.name
            edit.replace(result, outer.outputs[0])
            edit.remove(node)
            outer.outputs[0].name = name

        return change

    layers = [node for node in layers_of(model) if node.op_type == "Conv"]
    walk = LayerWalk(model, waves_of(model.graph, layers), Pieces.of(model, [{"input": images(4)}], 4), budget=budget)
    names = {node: label(node.inputs[0]) for node in layers}
    tasks = walked(walk, lambda node: Watched(Wanted((names[node],)), split(node)))
    after = Session(model, extra_outputs=list(dict.fromkeys(set(names.values()) - {"input"}))).run({"input": images(4)})
    for node, task in tasks.items():
        if names[node] != "input":
            np.testing.assert_allclose(task.whole("inputs", names[node]), after[names[node]], atol=1e-4)


def test_the_example_in_the_documentation():
    outcome = doctest.testmod(layerwise)
    assert outcome.attempted
    assert not outcome.failed


def test_waves_hold_independent_layers(network):
    waves = waves_of(network.graph, layers_of(network))
    assert sum(map(len, waves)) == len(layers_of(network))
    place = {node: wave for wave, nodes in enumerate(waves) for node in nodes}
    for node in place:
        for other in place:
            if node is not other and not can_wait(other, node.outputs[0], {}):
                assert place[other] < place[node]


def test_a_layer_waits_for_what_it_is_told_to(network):
    shortcut = next(node for node in layers_of(network) if len(waves_of(network.graph, [node])) == 1)
    last = layers_of(network)[-1]
    assert can_wait(last, shortcut.outputs[0], {})
    assert not can_wait(shortcut, last.outputs[0], {})
    nodes = layers_of(network)
    waves = waves_of(network.graph, nodes, {nodes[2]: nodes[1].outputs[0]})
    place = {node: wave for wave, nodes in enumerate(waves) for node in nodes}
    assert place[nodes[2]] > place[nodes[1]]


def test_values_that_are_not_final_are_not_shown(network):
    waves = waves_of(network.graph, layers_of(network))
    walk = LayerWalk(network, waves, Pieces.of(network, [{"input": images(2)}], 2), network)
    first, last = waves[0][0], label(waves[-1][0].outputs[0])
    assert not walk.can_show(first, Wanted(inputs=(last,)))
    assert not walk.can_show(first, Wanted(reference=(last,)))
    assert not walk.can_show(first, Wanted(reference=("unknown",)))


def test_without_a_reference_model_nothing_of_it_is_shown(network):
    waves = waves_of(network.graph, layers_of(network))
    walk = LayerWalk(network, waves, Pieces.of(network, [{"input": images(2)}], 2))
    assert not walk.can_show(waves[0][0], Wanted(reference=("input",)))


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
    node = layers_of(model)[1]
    value, result = node.inputs[0], label(node.outputs[0])
    data = everything(model, {"input": images(2)})[label(value)]
    set_encoding(value, AffineEncoding("uint8", (float(data.max()) / 3,), (0,)))
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

    waves = waves_of(network.graph, layers_of(network))
    walk = LayerWalk(network, waves, replace(Pieces.of(network, Changing(), 9), samples=9), network)
    with pytest.raises(DataError, match=f"gives {how} samples"):
        walk.run(lambda _: Watched(Wanted(("input",), ("input",))))
