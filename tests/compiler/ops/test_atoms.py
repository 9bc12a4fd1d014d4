"""The algebra of atoms, against a naive model of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphpress.ops import Atoms

PAIRS = st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30)


@given(batches=st.lists(PAIRS, max_size=4), frozen=st.lists(st.integers(0, 19), max_size=3))
def test_components_are_those_of_a_naive_union(batches: list[list[tuple[int, int]]], frozen: list[int]) -> None:
    atoms = Atoms()
    axis = atoms.fresh(20)
    naive = list(range(20))
    if frozen:
        atoms.freeze(axis[frozen], "because")
    for batch in batches:
        if batch:
            first, second = np.array(batch).T
            atoms.unite(axis[first], axis[second])
        for one, other in batch:
            old, new = naive[other], naive[one]
            naive = [new if name == old else name for name in naive]
    roots = atoms.find(axis)
    stuck = {naive[index] for index in frozen}
    for one in range(20):
        assert bool(atoms.is_frozen(axis[one : one + 1])[0]) == (naive[one] in stuck)
        for other in range(20):
            if naive[one] not in stuck and naive[other] not in stuck:
                assert (roots[one] == roots[other]) == (naive[one] == naive[other])


def test_what_is_frozen_already_keeps_its_own_reason() -> None:
    atoms = Atoms()
    first, second = atoms.frozen(3, "a graph input"), atoms.frozen(3, "a table")
    atoms.unite(first, second)
    assert atoms.reason(int(first[0])) == "a graph input"
    assert atoms.reason(int(second[0])) == "a table"


def test_the_first_reason_stays() -> None:
    atoms = Atoms()
    first, second = atoms.fresh(3), atoms.fresh(3)
    atoms.freeze(first, "a graph output")
    atoms.unite(first, second)
    atoms.freeze(second, "something else")
    assert [atoms.reason(int(atom)) for atom in second] == ["a graph output"] * 3
    assert atoms.reason(int(atoms.fresh(2)[0])) is None


def test_an_axis_of_size_one_is_frozen() -> None:
    atoms = Atoms()
    assert atoms.fresh(1).tolist() == [0]
    assert atoms.reason(0) == "an axis of size one"


def test_a_frozen_axis_costs_one_atom_a_reason() -> None:
    atoms = Atoms()
    before = len(atoms)
    assert len(atoms.frozen(1000, "space")) == 1000
    atoms.frozen(500, "space")
    assert len(atoms) == before + 1


def test_splitting_what_a_repeat_made_needs_no_constraint() -> None:
    atoms = Atoms()
    channels, space = atoms.fresh(4), atoms.frozen(9, "space")
    flat = atoms.merge(channels, space)
    back, rest = atoms.split(flat, 4, 9)
    assert back.tolist() == channels.tolist()
    assert atoms.is_frozen(rest).all()
    assert atoms.products == []


def test_splitting_what_a_tile_made_gives_the_inner_axis() -> None:
    atoms = Atoms()
    channels = atoms.fresh(4)
    outer, inner = atoms.split(atoms.merge(atoms.frozen(3, "block"), channels), 3, 4)
    assert inner.tolist() == channels.tolist()
    assert atoms.is_frozen(outer).all()


def test_splitting_free_channels_records_a_product() -> None:
    atoms = Atoms()
    flat = atoms.fresh(12)
    outer, inner = atoms.split(flat, 3, 4)
    (product,) = atoms.products
    assert (len(outer), len(inner), len(product.flat)) == (3, 4, 12)


def test_channel_shuffle_gives_two_products() -> None:
    """Split by group, swap, merge: one product each way, over the same two axes."""
    atoms = Atoms()
    (table,) = (atoms.reshape((atoms.fresh(12),), (3, 4)),)
    (flat,) = atoms.reshape((table[1], table[0]), (12,))
    split, merged = atoms.products
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
    atoms = Atoms()
    assert tuple(map(len, atoms.reshape(tuple(atoms.fresh(size) for size in before), after))) == after


def test_reshape_passes_axes_that_only_move_past_ones() -> None:
    atoms = Atoms()
    axes = (atoms.fresh(2), atoms.fresh(1), atoms.fresh(7))
    assert atoms.reshape(axes, (2, 7, 1))[1].tolist() == axes[2].tolist()
    assert atoms.products == []


def test_work_is_linear_in_the_unions(work: Callable[[Callable[[], object]], int]) -> None:
    def unite(count: int) -> None:
        atoms = Atoms()
        axis = atoms.fresh(64)
        for _ in range(count):
            atoms.unite(atoms.fresh(64), axis)

    assert work(lambda: unite(4000)) < 4.4 * work(lambda: unite(1000))
