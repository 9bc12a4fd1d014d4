"""Atoms: which positions along the axes of which tensors must live or die together.

A tensor is a tuple of axes; an axis is an integer array with one atom per position. Equal atoms share their fate.
Atoms are the elements of a union-find over numpy arrays; a component may be frozen, with the reason. Atom 0 is
always frozen and stands for every axis of size one.

Where a reshape splits or merges axes, fate is a conjunction: position ``(i, j)`` of the flat axis is kept iff
``outer[i]`` and ``inner[j]`` both are. Such ``Product`` constraints are recorded, for whoever chooses what to keep.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Axis = np.ndarray
"""Atoms of one axis: int64, one per position."""

Axes = tuple[np.ndarray, ...]
"""Atoms of a tensor: one array per axis."""

MAX_FLAT = 1 << 22
"""Positions of the longest axis that a reshape tracks; longer ones are frozen."""

_NOT_FROZEN = 0


@dataclass(frozen=True)
class Product:
    """``flat[i * len(inner) + j]`` is kept iff ``outer[i]`` and ``inner[j]`` both are."""

    outer: Axis
    inner: Axis
    flat: Axis


class Atoms:
    """The atoms of one graph.

    Args:
        keep_statistics: freeze axes over which a normalisation takes statistics. When false they stay free, and
            who removes positions answers for the change (or corrects the statistics).
    """

    def __init__(self, *, keep_statistics: bool = True) -> None:
        self.keep_statistics = keep_statistics
        self.products: list[Product] = []
        self._parent = np.arange(1024, dtype=np.int64)
        self._why = np.zeros(1024, np.int32)
        self._reasons = ["", "an axis of size one"]
        self._shared: dict[str, int] = {}
        self._why[0] = 1
        self._count = 1

    def __len__(self) -> int:
        return self._count

    # -- making -------------------------------------------------------------------------------------------

    def fresh(self, size: int) -> Axis:
        """New atoms for an axis; an axis of size one is atom 0."""
        return np.zeros(size, np.int64) if size <= 1 else self._new(size)

    def frozen(self, size: int, reason: str) -> Axis:
        """An axis whose positions all stay, with the reason; asking again for a reason costs no further atom."""
        if size <= 1:
            return np.zeros(size, np.int64)
        if reason not in self._shared:
            atom = self._new(1)
            self.freeze(atom, reason)
            self._shared[reason] = int(atom[0])
        return np.full(size, self._shared[reason], np.int64)

    def _new(self, size: int) -> Axis:
        start, self._count = self._count, self._count + size
        if self._count > len(self._parent):
            old = len(self._parent)
            capacity = max(2 * old, self._count)
            self._parent = np.concatenate([self._parent, np.arange(old, capacity, dtype=np.int64)])
            self._why = np.concatenate([self._why, np.zeros(capacity - old, np.int32)])
        return np.arange(start, self._count, dtype=np.int64)

    # -- asking -------------------------------------------------------------------------------------------

    def find(self, axis: Axis) -> Axis:
        """The representative of each atom's component, the smallest atom in it."""
        root = self._parent[axis]
        while True:
            above = self._parent[root]
            if np.array_equal(above, root):
                break
            root = self._parent[above]
        self._parent[axis] = root
        return np.asarray(root)

    def resolve(self, axis: Axis) -> Axis:
        """As ``find``, with 0 for every frozen atom."""
        root = self.find(axis)
        return np.where(self._why[root] == _NOT_FROZEN, root, 0)

    def is_frozen(self, axis: Axis) -> np.ndarray:
        """Whether each position must stay: a boolean array."""
        return np.asarray(self._why[self.find(axis)] != _NOT_FROZEN)

    def reason(self, atom: int) -> str | None:
        """Why this atom is frozen, or None when it is not."""
        why = int(self._why[self.find(np.array([atom]))[0]])
        return None if why == _NOT_FROZEN else self._reasons[why]

    # -- tying --------------------------------------------------------------------------------------------

    def unite(self, first: Axis, second: Axis) -> None:
        """Tie positions pairwise; both axes have the same length. A frozen side freezes the other, with its reason.

        Two that are frozen already need no tie, and keep their own reasons.
        """
        left, right = self.find(first), self.find(second)
        free = (self._why[left] == _NOT_FROZEN) | (self._why[right] == _NOT_FROZEN)
        left, right = left[free], right[free]
        touched = np.concatenate([left, right])
        stuck = touched[self._why[touched] != _NOT_FROZEN]
        while (differ := left != right).any():
            low, high = np.minimum(left, right)[differ], np.maximum(left, right)[differ]
            np.minimum.at(self._parent, high, low)
            left, right = self.find(low), self.find(high)
        self._pass_on_reasons(stuck)

    def _pass_on_reasons(self, stuck: Axis) -> None:
        """What used to be frozen freezes the component it is in now, unless that has a reason already."""
        root = self.find(stuck)
        missing = self._why[root] == _NOT_FROZEN
        self._why[root[missing]] = self._why[stuck[missing]]

    def freeze(self, axis: Axis, reason: str) -> None:
        """Every position stays. The first reason given to a component is the one it keeps."""
        root = self.find(axis)
        free = root[self._why[root] == _NOT_FROZEN]
        if free.size:
            self._reasons.append(reason)
            self._why[free] = len(self._reasons) - 1

    def freeze_statistics(self, axis: Axis, reason: str) -> None:
        """Freeze an axis whose statistics enter the result, unless that was waived."""
        if self.keep_statistics:
            self.freeze(axis, reason)

    # -- splitting and merging ----------------------------------------------------------------------------

    def split(self, flat: Axis, outer: int, inner: int) -> tuple[Axis, Axis]:
        """The two axes into which ``flat`` (of length outer × inner, row-major) is split."""
        atoms, table = flat.reshape(outer, inner), self.resolve(flat).reshape(outer, inner)
        if not table.any():
            return self._whole(atoms[:, 0]), self._whole(atoms[0])
        if (table == table[:, :1]).all():
            return atoms[:, 0], self._all_of_it(inner)
        if (table == table[:1]).all():
            return self._all_of_it(outer), atoms[0]
        rows, columns = self.fresh(outer), self.fresh(inner)
        self.products.append(Product(rows, columns, flat))
        return rows, columns

    def merge(self, outer: Axis, inner: Axis) -> Axis:
        """The axis into which two neighbouring axes are merged, row-major."""
        if self.is_frozen(outer).all():
            return np.tile(inner, len(outer))
        if self.is_frozen(inner).all():
            return np.repeat(outer, len(inner))
        flat = self.fresh(len(outer) * len(inner))
        self.products.append(Product(outer, inner, flat))
        return flat

    def _whole(self, axis: Axis) -> Axis:
        return axis if len(axis) > 1 else np.zeros(len(axis), np.int64)

    def _all_of_it(self, size: int) -> Axis:
        return self.frozen(size, "one side of a split axis, whose other side decides")

    def reshape(self, axes: Axes, shape: Sequence[int]) -> Axes:
        """The axes of a tensor of these ``axes`` seen in another shape with as many elements."""
        if 0 in shape:
            return self.stuck((axes,), shape, "an axis without positions")
        blocks = _blocks([len(axis) for axis in axes], shape)
        result = [np.zeros(1, np.int64)] * len(shape)
        for before, after in blocks:
            if len(before) == 1 and len(after) == 1:
                result[after[0]] = axes[before[0]]
                continue
            sizes = [shape[index] for index in after]
            parts = self._refold([axes[index] for index in before], sizes)
            for index, part in zip(after, parts, strict=True):
                result[index] = part
        return tuple(result)

    def _refold(self, parts: Sequence[Axis], sizes: Sequence[int]) -> list[Axis]:
        if int(np.prod(sizes)) > MAX_FLAT:
            return list(self.stuck((tuple(parts),), sizes, f"a reshape through more than {MAX_FLAT} positions"))
        flat = parts[0]
        for part in parts[1:]:
            flat = self.merge(flat, part)
        unfolded = []
        for size in sizes[:-1]:
            axis, flat = self.split(flat, size, len(flat) // size)
            unfolded.append(axis)
        return [*unfolded, flat]

    # -- giving up ----------------------------------------------------------------------------------------

    def stuck(self, read: Sequence[Axes | None], shape: Sequence[int], reason: str) -> Axes:
        """Freeze all that was read, and return frozen axes of this shape."""
        for axes in read:
            for axis in axes or ():
                self.freeze(axis, reason)
        return tuple(self.frozen(size, reason) for size in shape)


def _blocks(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Pair up runs of axes, sizes of one left out, whose products are equal and as short as can be."""
    left = [index for index, size in enumerate(before) if size != 1]
    right = [index for index, size in enumerate(after) if size != 1]
    blocks = []
    while left and right:
        ins, outs = [left.pop(0)], [right.pop(0)]
        have, want = before[ins[0]], after[outs[0]]
        while have != want:
            if have < want:
                ins.append(left.pop(0))
                have *= before[ins[-1]]
            else:
                outs.append(right.pop(0))
                want *= after[outs[-1]]
        blocks.append((ins, outs))
    return blocks
