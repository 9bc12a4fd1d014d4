"""Product constraints made independent: which side of each split axis may lose positions.

``flat[i, j]`` is kept iff ``outer[i]`` and ``inner[j]`` both are (a reshape, a grouped convolution, heads). As long as
both sides can lose positions, choices are conjunctions, which classes cannot express; with one side pinned they can:

    outer pinned:  flat[i, j] goes with inner[j]: the same positions go within every block
    inner pinned:  flat[i, j] goes with outer[i]: whole blocks go

Some constraints are decided by what is pinned already. The others fall into clusters that share classes; in each,
a few strategies are tried on a small copy of the union-find that holds nothing but the cluster, and the one that
leaves the fewest parameters, were half of everything removable to go, is carried out. Where that hardly differs (a
channel shuffle ties positions as well as blocks), the one with more, smaller units is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, get_args

import numpy as np

from graphpress.analysis.channels import Channels
from graphpress.errors import UsageError, did_you_mean
from graphpress.ir import is_constant
from graphpress.ops import Axis, DependencyClasses
from graphpress.ops.dependency import ProductConstraint

Blocks = Literal["auto", "whole", "within"]
"""What goes where an axis is a table of blocks: whole blocks, the same positions within every block, or the better."""

_Side = Callable[[DependencyClasses, ProductConstraint], bool]
"""Whether whole blocks go (the inner side is pinned) rather than positions within every block."""

_OTHER_SIDE = "one side of a split axis, whose other side decides"
_MAX_FIXED_POINT = 64
"""Clusters of more constraints than this look back only once, so that time stays linear."""


def settle(channels: Channels, blocks: Blocks) -> None:
    """Pin one side of every product constraint, in place; none is left afterwards.

    Raises:
        UsageError: ``blocks`` is none of these.
    """
    if blocks not in get_args(Blocks):
        raise UsageError(f"no such choice {blocks!r}", where="blocks", fix=did_you_mean(blocks, get_args(Blocks)))
    classes = channels.classes
    pending = _forced(classes, classes.products)
    mass = _Mass(channels) if pending and blocks == "auto" else None
    for cluster in _clusters(classes, pending):
        side = _STRATEGIES[blocks] if mass is None else mass.best(cluster)
        _carry_out(classes, cluster, side)
    classes.products.clear()


# -- one constraint -------------------------------------------------------------------------------------------


def _force(classes: DependencyClasses, product: ProductConstraint) -> bool:
    """Carry out what is pinned already; whether that decided the constraint."""
    rows, columns = len(product.outer), len(product.inner)
    outer, inner = classes.resolve(product.outer), classes.resolve(product.inner)
    table = classes.resolve(product.flat).reshape(rows, columns)
    pinned = table == 0
    if pinned.any():  # what stays keeps its row and its column
        _pin(classes, product.outer[pinned.any(axis=1)], product, product.flat)
        _pin(classes, product.inner[pinned.any(axis=0)], product, product.flat)
        outer, inner = classes.resolve(product.outer), classes.resolve(product.inner)
    if not outer.any() or (columns > 1 and (table == table[:1]).all()):
        _within(classes, product)
    elif not inner.any() or (rows > 1 and (table == table[:, :1]).all()):
        _whole(classes, product)
    else:
        return False
    return True


def _within(classes: DependencyClasses, product: ProductConstraint) -> None:
    _pin(classes, product.outer, product, product.inner)
    classes.unite(product.flat, np.tile(product.inner, len(product.outer)))


def _whole(classes: DependencyClasses, product: ProductConstraint) -> None:
    _pin(classes, product.inner, product, product.outer)
    classes.unite(product.flat, np.repeat(product.outer, len(product.inner)))


def _pin(classes: DependencyClasses, axis: Axis, product: ProductConstraint, decides: Axis) -> None:
    """Pin, for the reason that holds the other side if there is one."""
    held = decides[classes.is_pinned(decides)]
    reason = classes.reason(int(held[0])) if len(held) else None
    classes.pin(axis, reason or _OTHER_SIDE)


# -- many -----------------------------------------------------------------------------------------------------


def _forced(classes: DependencyClasses, products: Sequence[ProductConstraint]) -> list[ProductConstraint]:
    """Carry out what is decided already, until nothing changes; what is left."""
    pending = list(products)
    while True:
        left = [product for product in pending if not _force(classes, product)]
        if len(left) == len(pending):
            return left
        pending = left


def _carry_out(classes: DependencyClasses, cluster: Sequence[ProductConstraint], side: _Side) -> None:
    """Decide one constraint after the other; each decision may force others of the cluster."""
    pending = list(cluster)
    while pending:
        first = pending.pop(0)
        if _force(classes, first):
            continue
        (_whole if side(classes, first) else _within)(classes, first)
        if len(pending) <= _MAX_FIXED_POINT:
            pending = _forced(classes, pending)


def _clusters(classes: DependencyClasses, products: Sequence[ProductConstraint]) -> list[list[ProductConstraint]]:
    """Constraints that share a class, in order."""
    roots = [_free_roots(classes, product) for product in products]
    links = DependencyClasses()
    places = links.fresh(len(products) + 1)[1:]
    owner: dict[int, int] = {}
    for number, own in enumerate(roots):
        for root in own:
            first = owner.setdefault(int(root), number)
            if first != number:
                links.unite(places[first : first + 1], places[number : number + 1])
    clusters: dict[int, list[ProductConstraint]] = {}
    for product, place in zip(products, links.find(places), strict=True):
        clusters.setdefault(int(place), []).append(product)
    return list(clusters.values())


def _free_roots(classes: DependencyClasses, product: ProductConstraint) -> np.ndarray:
    roots = np.unique(classes.resolve(np.concatenate([product.outer, product.inner, product.flat])))
    return roots[roots > 0]


def _more_blocks(classes: DependencyClasses, product: ProductConstraint) -> bool:
    """Whether there are more blocks than positions in a block."""
    return len(np.unique(classes.resolve(product.outer))) >= len(np.unique(classes.resolve(product.inner)))


_STRATEGIES: dict[str, _Side] = {
    "within": lambda classes, product: False,
    "whole": lambda classes, product: True,
    "more": _more_blocks,
    "fewer": lambda classes, product: not _more_blocks(classes, product),
}


_NEARLY_EQUAL = 0.01
"""Relative difference in parameters that is not worth a coarser choice of units."""


class _Mass:
    """How many parameters a strategy would leave, counted over the constants that a cluster touches."""

    def __init__(self, channels: Channels) -> None:
        self.classes = channels.classes
        self.constants = [axes for value, axes in channels.axes.items() if is_constant(value) and len(axes) > 1]
        self.readers: dict[int, set[int]] = {}
        for number, axes in enumerate(self.constants):
            for axis in axes:
                for root in np.unique(self.classes.resolve(axis)) if len(axis) > 1 else ():
                    self.readers.setdefault(int(root), set()).add(number)

    def best(self, cluster: Sequence[ProductConstraint]) -> _Side:
        """The strategy that leaves the fewest parameters; of near equals the one with the most units to choose from."""
        roots = sorted({int(root) for product in cluster for root in _free_roots(self.classes, product)})
        touched = sorted(set().union(*(self.readers.get(root, set()) for root in roots)))
        trials = [(side, *self._left(cluster, np.array(roots), touched, side)) for side in _STRATEGIES.values()]
        fewest = min(left for _, left, _ in trials)
        return max((trial for trial in trials if trial[1] <= fewest * (1 + _NEARLY_EQUAL)), key=lambda trial: trial[2])[
            0
        ]

    def _left(
        self, cluster: Sequence[ProductConstraint], roots: np.ndarray, touched: Iterable[int], side: _Side
    ) -> tuple[float, int]:
        """Parameters left, and units that can go, in a trial on a copy that knows these classes alone."""
        trial = DependencyClasses()
        local = np.concatenate([[0], trial.fresh(len(roots) + 1)[1:]])

        def seen(axis: Axis) -> Axis:
            resolved = self.classes.resolve(axis)
            place = np.clip(np.searchsorted(roots, resolved), 0, len(roots) - 1)
            return local[np.where(roots[place] == resolved, place + 1, 0)]

        copies = [
            ProductConstraint(seen(product.outer), seen(product.inner), seen(product.flat)) for product in cluster
        ]
        _carry_out(trial, copies, side)
        left = 0.0
        for number in touched:
            axes = self.constants[number]
            left += float(np.prod([_half(trial.resolve(seen(axis))) for axis in axes]))
        return left, len(np.unique(trial.resolve(local[1:])))


def _half(axis: Axis) -> float:
    """Positions left of an axis when half of its removable classes go (the last one never does)."""
    free = axis[axis > 0]
    count = len(np.unique(free))
    alone = count == 1 and len(free) == len(axis)
    return float(len(axis)) if count == 0 or alone else len(axis) - len(free) * (count // 2) / count
