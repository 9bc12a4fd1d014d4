"""Channel shuffles become permutations of one axis: the same numbers, and any channel can go."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphpress import ir
from graphpress.analysis.shapes import infer_shapes
from graphpress.coupling import couple, remove, shuffles_to_gathers
from graphpress.manager.contract import Context
from graphpress.passes.prune.prune import Prune
from graphpress.runtime import Session
from graphpress.targets import load_target

IMAGE = {"x": ("n", 3, 6, 6)}


def chain(b: Any, hidden: str, table: list[int], order: list[int], flat: list[int]) -> str:
    cut = b("Reshape", hidden, b.constant(np.array(table)))
    return str(b("Reshape", b("Transpose", cut, perm=order), b.constant(np.array(flat))))


FORMS = {
    "five axes": ([0, 3, 4, 6, 6], [0, 2, 1, 3, 4], [0, 12, 6, 6]),
    "inferred batch": ([-1, 3, 4, 6, 6], [0, 2, 1, 3, 4], [-1, 12, 6, 6]),
    "flat space": ([0, 3, 4, -1], [0, 2, 1, 3], [0, 12, 6, 6]),
    "inferred channels": ([0, 2, 6, 6, 6], [0, 2, 1, 3, 4], [0, -1, 6, 6]),
    "three parts": ([0, 2, 3, 2, 6, 6], [0, 3, 1, 2, 4, 5], [0, 12, 6, 6]),
    "first part stays": ([0, 2, 3, 2, 6, 6], [0, 1, 3, 2, 4, 5], [0, 12, 6, 6]),
}
OTHERS = {
    "heads": ([0, 3, 4, 36], [0, 2, 1, 3], [0, 4, 3, 36]),
    "rows take part": ([0, 12, 2, 3, 6], [0, 2, 1, 3, 4], [0, 12, 6, 6]),
    "samples take part": ([3, -1, 12, 6, 6], [1, 0, 2, 3, 4], [-1, 12, 6, 6]),
    "pixels": ([0, 3, 2, 2, 6, 6], [0, 1, 4, 2, 5, 3], [0, 3, 12, 12]),
    "nothing moves": ([0, 3, 4, 6, 6], [0, 1, 2, 3, 4], [0, 12, 6, 6]),
}


def network(b: Any, form: tuple[list[int], list[int], list[int]]) -> ir.Model:
    shuffled = chain(b, b("Relu", b.conv("x", 3, 12)), *form)
    last = b("Flatten", b("GlobalMaxPool", b("Sin", shuffled)))
    model = ir.from_proto(b.proto(IMAGE, [last]))
    infer_shapes(model)
    return model


def read_by_a_convolution(b: Any, hidden: str) -> ir.Model:
    shuffled = b("Conv", chain(b, hidden, *FORMS["five axes"]), b.weight(12, 1, 3, 3), group=12)
    model = ir.from_proto(b.proto(IMAGE, [b.conv(shuffled, 12, 4)]))
    infer_shapes(model)
    return model


def ops(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def run(model: ir.Model, size: int) -> np.ndarray:
    feed = {"x": np.random.default_rng(1).normal(size=(size, 3, 6, 6)).astype(np.float32)}
    (result,) = Session(model).run(feed).values()
    return result


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_shuffle_becomes_a_permutation(form, build):
    model = network(build, form)
    before = {size: run(model, size) for size in (1, 3)}
    assert shuffles_to_gathers(model) == 1
    assert ir.problems(model) == []
    assert ops(model) == ["Conv", "Relu", "Gather", "Sin", "GlobalMaxPool", "Flatten"]
    for size, wanted in before.items():
        np.testing.assert_array_equal(run(model, size), wanted)
    assert shuffles_to_gathers(model) == 0


@pytest.mark.parametrize("form", OTHERS.values(), ids=OTHERS)
def test_what_moves_more_than_one_axis_is_left_alone(form, build):
    model = network(build, form)
    before = ops(model)
    assert shuffles_to_gathers(model) == 0
    assert ops(model) == before


@pytest.mark.parametrize("place", [0, 1], ids=["table", "transposed"])
def test_what_others_read_is_left_alone(place, build):
    shuffled = chain(build, build.conv("x", 3, 12), *FORMS["five axes"])
    model = build.model(IMAGE, [build("Sin", shuffled)])
    inner = [node.outputs[0] for node in model.graph if node.op_type in ("Reshape", "Transpose")][place]
    edit = ir.Editor(model)
    model.graph.outputs.append(edit.add_node("Neg", [inner], after=inner.producer()).outputs[0])
    assert shuffles_to_gathers(model) == 0


def test_sizes_that_are_not_known_are_no_ground(build):
    shuffled = chain(build, build.conv("x", 3, 12), [0, 3, 4, -1, 6], [0, 2, 1, 3, 4], [0, 12, -1, 6])
    model = build.model({"x": ("n", 3, None, 6)}, [build("Sin", shuffled)])
    for node in model.graph:
        if node.op_type == "Reshape":
            node.outputs[0].shape = None
    assert shuffles_to_gathers(model) == 0


def test_any_channel_can_go(build):
    model = read_by_a_convolution(build, build.conv("x", 3, 12))
    assert max(group.size for group in couple(model).groups) < 12
    shuffles_to_gathers(model)
    assert [group.size for group in couple(model).groups] == [12]


@pytest.mark.parametrize("seed", range(3))
def test_channels_that_are_zero_go_wherever_they_lie(seed, new_build):
    """In a table of blocks, neither whole blocks nor the same positions of every block are zero."""
    build = new_build(seed)
    weight = build.weight(12, 3, 1, 1)
    gone = np.random.default_rng(seed).permutation(12)[:6]
    model = read_by_a_convolution(build, build("Relu", build("Conv", "x", weight)))
    value = model.graph.initializers[weight]
    array = np.array(ir.constant(value))
    array[gone] = 0
    ir.Editor(model).set_constant(value, array)
    before = run(model, 2)
    Prune(ratio=0.5).run(model, Context(load_target("cpu"), ir.clone(model)))
    assert model.graph.initializers[weight].shape == (6, 3, 1, 1)
    np.testing.assert_allclose(run(model, 2), before, rtol=1e-4, atol=1e-5)


def test_a_permutation_that_lost_channels_counts_what_is_left(build):
    model = read_by_a_convolution(build, build.conv("x", 3, 12))
    shuffles_to_gathers(model)
    coupling = couple(model)
    keep = np.isin(np.arange(12), [1, 4, 5, 10])
    remove(model, coupling, {coupling.groups[0].name: keep})
    gather = next(node for node in model.graph if node.op_type == "Gather")
    assert list(ir.constant(gather.inputs[1])) == [1, 0, 2, 3], (
        "of 0 4 8, 1 5 9, 2 6 10, 3 7 11 these are left: 4, 1 5, 10"
    )
