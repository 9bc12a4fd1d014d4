"""Sums over the slice of a constant that belongs to each unit; a constant is read once for all of its places."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from graphpress.coupling import Coupling, Place
from graphpress.ir import Value, constant
from graphpress.passes.prune.criteria._reduction import Share
from graphpress.passes.prune.criteria._roles import factor_of

Chosen = Mapping[str, list[Place]]
"""The places that count, by the name of their group."""
Shares = dict[str, list[Share]]
"""The scores at the places of each group, in the order of the places."""


def sum_slices(chosen: Chosen, sizes: Mapping[str, int], measure: Callable[[Value], np.ndarray]) -> Shares:
    """For each unit, the sum of ``measure(constant)`` over the unit's slice of each place.

    Args:
        chosen: the places that count.
        sizes: units of each group.
        measure: from a constant to an array of its shape.
    """
    shares: dict[str, dict[int, Share]] = {name: {} for name in chosen}
    for value, places in _by_constant(chosen):
        measured = measure(value)
        for name, at, place in places:
            shares[name][at] = replace(unit_share(measured, place, sizes[name]), factor=factor_of(place))
    return {name: [by_place[at] for at in sorted(by_place)] for name, by_place in shares.items()}


def unit_share(array: np.ndarray, place: Place, size: int) -> Share:
    """The array summed over each unit's slice; the array has the shape of the place's value."""
    others = tuple(axis for axis in range(array.ndim) if axis != place.axis)
    per_position = array.sum(axis=others, dtype=np.float64)
    counts = unit_sums(np.ones(len(place.units)), place.units, size)
    elements = counts * (array.size // max(len(place.units), 1))
    return Share(unit_sums(per_position, place.units, size), elements)


def unit_sums(per_position: np.ndarray, units: np.ndarray, size: int) -> np.ndarray:
    """Sums over the positions of each unit: ``(positions,)`` to ``(size,)``; -1 belongs to none."""
    mine = units >= 0
    return np.bincount(units[mine], weights=per_position[mine], minlength=size)


def numbers(value: Value) -> np.ndarray:
    """The constant as real numbers: a view where it is float32 or float64, else a float32 copy."""
    array = constant(value)
    assert array is not None, f"{value.name} is not constant"
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def sizes_of(coupling: Coupling) -> dict[str, int]:
    """Units of each group."""
    return {group.name: group.size for group in coupling.groups}


def unit_rows(array: np.ndarray, place: Place, size: int) -> np.ndarray:
    """``(size, numbers)``: each unit's slice as a row, filled up with zeros where units have fewer positions."""
    mine = np.flatnonzero(place.units >= 0)
    order = mine[np.argsort(place.units[mine], kind="stable")]
    owners = place.units[order]
    counts = np.bincount(owners, minlength=size)
    rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    slices = np.take(array, order, axis=place.axis)
    slices = np.moveaxis(slices, place.axis, 0).reshape(len(order), array.size // max(len(place.units), 1))
    rows = np.zeros((size, int(counts.max(initial=0)), slices.shape[1]), slices.dtype)
    rows[owners, rank] = slices
    return rows.reshape(size, rows.shape[1] * rows.shape[2])


def _by_constant(chosen: Chosen) -> Iterator[tuple[Value, list[tuple[str, int, Place]]]]:
    """Each constant once, with the places that lie on it: (group, which of the group's places, place)."""
    table: dict[Value, list[tuple[str, int, Place]]] = {}
    for name, places in chosen.items():
        for at, place in enumerate(places):
            table.setdefault(place.value, []).append((name, at, place))
    yield from table.items()
