"""The algebra of classes, against a naive model of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphpress.ops import DependencyClasses

PAIRS = st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30)


@given(batches=st.lists(PAIRS, max_size=4), pinned=st.lists(st.integers(0, 19), max_size=3))
def test_components_are_those_of_a_naive_union(batches: list[list[tuple[int, int]]], pinned: list[int]) -> None:
    classes = DependencyClasses()
    axis = classes.fresh(20)
    naive = list(range(20))
    if pinned:
        classes.pin(axis[pinned], "because")
    for batch in batches:
        if batch:
            first, second = np.array(batch).T
            classes.unite(axis[first], axis[second])
        for left, right in batch:
            old, new = naive[right], naive[left]
            naive = [new if name == old else name for name in naive]
    roots = classes.find(axis)
    fixed = {naive[index] for index in pinned}
    for left in range(20):
        assert bool(classes.is_pinned(axis[left : left + 1])[0]) == (naive[left] in fixed)
        for right in range(20):
            if naive[left] not in fixed and naive[right] not in fixed:
                assert (roots[left] == roots[right]) == (naive[left] == naive[right])


def test_what_is_pinned_already_keeps_its_own_reason() -> None:
    classes = DependencyClasses()
    first, second = classes.pinned(3, "a graph input"), classes.pinned(3, "a table")
    classes.unite(first, second)
    assert classes.reason(int(first[0])) == "a graph input"
    assert classes.reason(int(second[0])) == "a table"


def test_the_first_reason_stays() -> None:
    classes = DependencyClasses()
    first, second = classes.fresh(3), classes.fresh(3)
    classes.pin(first, "a graph output")
    classes.unite(first, second)
    classes.pin(second, "something else")
    assert [classes.reason(int(number)) for number in second] == ["a graph output"] * 3
    assert classes.reason(int(classes.fresh(2)[0])) is None


def test_an_axis_of_size_one_is_pinned() -> None:
    classes = DependencyClasses()
    assert classes.fresh(1).tolist() == [0]
    assert classes.reason(0) == "an axis of size one"


def test_a_pinned_axis_costs_one_class_a_reason() -> None:
    classes = DependencyClasses()
    before = len(classes)
    assert len(classes.pinned(1000, "space")) == 1000
    classes.pinned(500, "space")
    assert len(classes) == before + 1


def test_splitting_what_a_repeat_made_needs_no_constraint() -> None:
    classes = DependencyClasses()
    channels, space = classes.fresh(4), classes.pinned(9, "space")
    flat = classes.merge(channels, space)
    back, rest = classes.split(flat, 4, 9)
    assert back.tolist() == channels.tolist()
    assert classes.is_pinned(rest).all()
    assert classes.products == []


def test_splitting_what_a_tile_made_gives_the_inner_axis() -> None:
    classes = DependencyClasses()
    channels = classes.fresh(4)
    outer, inner = classes.split(classes.merge(classes.pinned(3, "block"), channels), 3, 4)
    assert inner.tolist() == channels.tolist()
    assert classes.is_pinned(outer).all()


def test_splitting_free_channels_records_a_product() -> None:
    classes = DependencyClasses()
    flat = classes.fresh(12)
    outer, inner = classes.split(flat, 3, 4)
    (product,) = classes.products
    assert (len(outer), len(inner), len(product.flat)) == (3, 4, 12)


def test_channel_shuffle_gives_two_products() -> None:
    """Split by group, swap, merge: one product each way, over the same two axes."""
    classes = DependencyClasses()
    (table,) = (classes.reshape((classes.fresh(12),), (3, 4)),)
    (flat,) = classes.reshape((table[1], table[0]), (12,))
    split, merged = classes.products
    assert split.outer.tolist() == merged.inner.tolist()
    assert split.inner.tolist() == merged.outer.tolist()
    assert merged.flat.tolist() == flat.tolist()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((2, 12, 5), (2, 3, 4, 5)),
        ((1, 8, 1, 1), (1, 8)),
        ((6, 4), (4, 6)),
        ((2, 3, 4), (24,)),
        ((5,), (1, 5, 1)),
        ((), (1,)),
    ],
)
def test_reshape_gives_axes_of_the_new_sizes(before: tuple[int, ...], after: tuple[int, ...]) -> None:
    classes = DependencyClasses()
    assert tuple(map(len, classes.reshape(tuple(classes.fresh(size) for size in before), after))) == after


def test_reshape_passes_axes_that_only_move_past_ones() -> None:
    classes = DependencyClasses()
    axes = (classes.fresh(2), classes.fresh(1), classes.fresh(7))
    assert classes.reshape(axes, (2, 7, 1))[1].tolist() == axes[2].tolist()
    assert classes.products == []


def test_work_is_linear_in_the_unions(work: Callable[[Callable[[], object]], int]) -> None:
    def unite(count: int) -> None:
        classes = DependencyClasses()
        axis = classes.fresh(64)
        for _ in range(count):
            classes.unite(classes.fresh(64), axis)

    assert work(lambda: unite(4000)) < 4.4 * work(lambda: unite(1000))
