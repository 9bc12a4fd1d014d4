"""Dependency classes: which positions along the axes of which tensors must be kept or removed together.

A tensor is a tuple of axes; an axis is an integer array with the number of a class for each position. Positions of one
class are kept or removed together. Classes are merged in a union-find over numpy arrays: several numbers may name one
class, and the smallest of them represents it. A class may be pinned, with the reason. Class 0 is always pinned: it is
that of every axis of size one.

Where a reshape splits or merges axes, the choice is a conjunction: position ``(i, j)`` of the flat axis is kept iff
``outer[i]`` and ``inner[j]`` both are. Each such ``ProductConstraint`` is recorded, for whoever chooses what to keep.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Axis = np.ndarray
"""Class numbers along one axis: int64, one per position."""

Axes = tuple[np.ndarray, ...]
"""Class numbers of a tensor: one array per axis."""

MAX_FLAT = 1 << 22
"""Positions of the longest axis that a reshape tracks; longer ones are pinned."""

_NOT_PINNED = 0


@dataclass(frozen=True)
class ProductConstraint:
    """``flat[i * len(inner) + j]`` is kept iff ``outer[i]`` and ``inner[j]`` both are."""

    outer: Axis
    inner: Axis
    flat: Axis


class DependencyClasses:
    """The classes of one graph.

    Args:
        keep_statistics: pin axes over which a normalization takes statistics. When false they stay free, and
            whoever removes positions accounts for the change (or corrects the statistics).
    """

    def __init__(self, *, keep_statistics: bool = True) -> None:
        self.keep_statistics = keep_statistics
        self.products: list[ProductConstraint] = []
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
        """New classes for an axis; an axis of size one is class 0."""
        return np.zeros(size, np.int64) if size <= 1 else self._new(size)

    def pinned(self, size: int, reason: str) -> Axis:
        """An axis whose positions all stay, with the reason; asking again for a reason costs no further class."""
        if size <= 1:
            return np.zeros(size, np.int64)
        if reason not in self._shared:
            number = self._new(1)
            self.pin(number, reason)
            self._shared[reason] = int(number[0])
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
        """The representative of each position's class: the smallest number that names it."""
        root = self._parent[axis]
        while True:
            above = self._parent[root]
            if np.array_equal(above, root):
                break
            root = self._parent[above]
        self._parent[axis] = root
        return np.asarray(root)

    def resolve(self, axis: Axis) -> Axis:
        """As ``find``, with 0 where the class is pinned."""
        root = self.find(axis)
        return np.where(self._why[root] == _NOT_PINNED, root, 0)

    def is_pinned(self, axis: Axis) -> np.ndarray:
        """Whether each position must stay: a boolean array."""
        return np.asarray(self._why[self.find(axis)] != _NOT_PINNED)

    def reason(self, number: int) -> str | None:
        """Why the class of this number is pinned, or None when it is not."""
        why = int(self._why[self.find(np.array([number]))[0]])
        return None if why == _NOT_PINNED else self._reasons[why]

    # -- uniting ------------------------------------------------------------------------------------------

    def unite(self, first: Axis, second: Axis) -> None:
        """Merge the classes of positions pairwise; both axes have the same length. A pinned class pins the other, with
        its reason.

        Two that are pinned already are not merged, and keep their own reasons.
        """
        left, right = self.find(first), self.find(second)
        free = (self._why[left] == _NOT_PINNED) | (self._why[right] == _NOT_PINNED)
        left, right = left[free], right[free]
        touched = np.concatenate([left, right])
        pinned = touched[self._why[touched] != _NOT_PINNED]
        while (differ := left != right).any():
            low, high = np.minimum(left, right)[differ], np.maximum(left, right)[differ]
            np.minimum.at(self._parent, high, low)
            left, right = self.find(low), self.find(high)
        self._pass_on_reasons(pinned)

    def _pass_on_reasons(self, pinned: Axis) -> None:
        """A class that was pinned pins the one it was merged into, unless that has a reason already."""
        root = self.find(pinned)
        missing = self._why[root] == _NOT_PINNED
        self._why[root[missing]] = self._why[pinned[missing]]

    def pin(self, axis: Axis, reason: str) -> None:
        """Every position stays. A class keeps the first reason that it was given."""
        root = self.find(axis)
        free = root[self._why[root] == _NOT_PINNED]
        if free.size:
            self._reasons.append(reason)
            self._why[free] = len(self._reasons) - 1

    def pin_statistics(self, axis: Axis, reason: str) -> None:
        """Pin an axis whose statistics enter the result, unless that was waived."""
        if self.keep_statistics:
            self.pin(axis, reason)

    # -- splitting and merging ----------------------------------------------------------------------------

    def split(self, flat: Axis, outer: int, inner: int) -> tuple[Axis, Axis]:
        """The two axes into which ``flat`` (of length outer × inner, row-major) is split."""
        classes, table = flat.reshape(outer, inner), self.resolve(flat).reshape(outer, inner)
        if not table.any():
            return self._whole(classes[:, 0]), self._whole(classes[0])
        if (table == table[:, :1]).all():
            return classes[:, 0], self._all_of_it(inner)
        if (table == table[:1]).all():
            return self._all_of_it(outer), classes[0]
        rows, columns = self.fresh(outer), self.fresh(inner)
        self.products.append(ProductConstraint(rows, columns, flat))
        return rows, columns

    def merge(self, outer: Axis, inner: Axis) -> Axis:
        """The axis into which two neighboring axes are merged, row-major."""
        if self.is_pinned(outer).all():
            return np.tile(inner, len(outer))
        if self.is_pinned(inner).all():
            return np.repeat(outer, len(inner))
        flat = self.fresh(len(outer) * len(inner))
        self.products.append(ProductConstraint(outer, inner, flat))
        return flat

    def _whole(self, axis: Axis) -> Axis:
        return axis if len(axis) > 1 else np.zeros(len(axis), np.int64)

    def _all_of_it(self, size: int) -> Axis:
        return self.pinned(size, "one side of a split axis, whose other side decides")

    def reshape(self, axes: Axes, shape: Sequence[int]) -> Axes:
        """The axes of a tensor of these ``axes`` seen in another shape with as many elements."""
        if 0 in shape:
            return self.pin_all((axes,), shape, "an axis without positions")
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
            return list(self.pin_all((tuple(parts),), sizes, f"a reshape through more than {MAX_FLAT} positions"))
        flat = parts[0]
        for part in parts[1:]:
            flat = self.merge(flat, part)
        unfolded = []
        for size in sizes[:-1]:
            axis, flat = self.split(flat, size, len(flat) // size)
            unfolded.append(axis)
        return [*unfolded, flat]

    # -- pinning whole tensors ----------------------------------------------------------------------------

    def pin_all(self, read: Sequence[Axes | None], shape: Sequence[int], reason: str) -> Axes:
        """Pin all that was read, and return pinned axes of this shape."""
        for axes in read:
            for axis in axes or ():
                self.pin(axis, reason)
        return tuple(self.pinned(size, reason) for size in shape)


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
