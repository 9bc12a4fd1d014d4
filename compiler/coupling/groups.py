"""Coupled groups: the units of a graph that can be removed, and every slice of every tensor that goes with each.

A *unit* is a dependency class: a channel, a head, a position of a hidden axis, with all that depends on it. Units that
lie along exactly the same axes of the same tensors are interchangeable and form a *group*: the 64 channels of a
convolution, the inner width of one MLP, the heads of one attention. What reads a Concat sees the groups of all its
parts side by side; a Split cuts the units of one axis into several groups.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from graphpress.analysis.channels import Channels, propagate
from graphpress.analysis.linear import linear_op_of, linear_ops_of
from graphpress.analysis.shapes import concrete_shapes
from graphpress.analysis.views import is_weight
from graphpress.coupling.products import Blocks, settle
from graphpress.ir import Dims, Model, Node, Value, is_constant, label
from graphpress.ops import Axis

_HASH_SEED = 0x5EED


@dataclass(frozen=True)
class Place:
    """Where the units of a group lie along one axis of one value.

    Args:
        value: a constant or an activation.
        axis: which axis.
        units: int64, one per position of the axis: number of the unit within its group, -1 where the position is
            none of the group's.
    """

    value: Value
    axis: int
    units: np.ndarray


@dataclass(frozen=True)
class Group:
    """Units that lie along the same axes.

    Args:
        name: the first weight that writes the units, with its axis; unique, and the same for the same graph.
        size: number of units.
        constants: where the units lie in weights, biases and other constants, in graph order.
        features: where they lie in activations, in graph order.
    """

    name: str
    size: int
    constants: tuple[Place, ...]
    features: tuple[Place, ...]

    @property
    def writers(self) -> tuple[Node, ...]:
        """The linear nodes whose outputs are the units, in graph order."""
        return tuple(node for place in self.constants for node in _writers(place))


@dataclass(frozen=True)
class PinnedAxis:
    """An axis of a weight that cannot shrink.

    Args:
        where: the weight and its axis.
        size: positions of the axis.
        why: what holds it.
    """

    where: str
    size: int
    why: str


@dataclass(frozen=True)
class Coupling:
    """What can be removed from a graph.

    Args:
        groups: in graph order.
        pinned: axes of weights without any removable position.
        channels: the classes behind it, product constraints settled.
        shapes: the static shapes at which the graph was looked at, by value name.
    """

    groups: tuple[Group, ...]
    pinned: tuple[PinnedAxis, ...]
    channels: Channels
    shapes: Mapping[str, Dims]

    def __getitem__(self, name: str) -> Group:
        """The group of that name.

        Raises:
            KeyError: there is none.
        """
        group = next((group for group in self.groups if group.name == name), None)
        if group is None:
            raise KeyError(name)
        return group


def couple(
    model: Model,
    *,
    shapes: Mapping[str, Dims] | None = None,
    keep_statistics: bool = True,
    blocks: Blocks = "auto",
    left_alone: Callable[[Node], str | None] = lambda node: None,
) -> Coupling:
    """Find the groups of a model.

    Args:
        model: not changed. Let ``unshare`` run first: constants that several layers share tie those layers.
        shapes: static shapes by value name; ``concrete_shapes(model)`` when not given.
        keep_statistics: leave axes whole over which a normalization takes statistics.
        blocks: where an axis is a table of blocks (groups of a convolution, heads), whether whole blocks go, the
            same positions within every block, or (``auto``) whatever removes more parameters; of near equals, the
            finer.
        left_alone: why the weights of a node have to stay as they are, or None.
    """
    shapes = concrete_shapes(model) if shapes is None else shapes
    channels = propagate(model, shapes, keep_statistics=keep_statistics)
    for node in model.graph:
        if reason := left_alone(node):
            _pin(channels, node, reason)
    settle(channels, blocks)
    return Coupling(_groups(channels), _pinned(model, channels), channels, shapes)


def _pin(channels: Channels, node: Node, reason: str) -> None:
    """Pin what a node computes and the constants it reads."""
    for value in [*node.outputs, *(value for value in node.inputs if is_constant(value))]:
        for axis in channels.axes.get(value, ()) if value is not None else ():
            channels.classes.pin(axis, reason)


# -- groups ---------------------------------------------------------------------------------------------------


def _groups(channels: Channels) -> tuple[Group, ...]:
    table = _Incidence.of(channels)
    members: list[list[Place]] = [[] for _ in range(table.count)]
    seen: dict[bytes, list[tuple[int, np.ndarray]]] = {}  # most axes are those of a neighbor: they share arrays
    for value, index, roots in table.axes():
        key = roots.tobytes()
        if key not in seen:
            seen[key] = table.split(roots)
        for number, units in seen[key]:
            members[number].append(Place(value, index, units))
    groups, names = [], set[str]()
    for places, size in zip(members, table.sizes, strict=True):
        constants = tuple(place for place in places if is_constant(place.value))
        if not constants or size < 2:
            continue
        name = _unique(_name(constants), names)
        features = tuple(place for place in places if not is_constant(place.value))
        groups.append(Group(name, int(size), constants, features))
    return tuple(groups)


@dataclass(frozen=True)
class _Incidence:
    """Which unit lies along which axes.

    Args:
        values: value and axis index of each axis that has a free position.
        starts: offsets of these axes in ``roots``, and the end.
        roots: for every position of them the representative of its class, 0 where pinned.
        group_of: by representative, the number of the group or -1.
        unit_of: by representative, the number within the group.
        sizes: units per group.
    """

    values: tuple[tuple[Value, int], ...]
    starts: np.ndarray
    roots: np.ndarray
    group_of: np.ndarray
    unit_of: np.ndarray
    sizes: np.ndarray

    @staticmethod
    def of(channels: Channels) -> _Incidence:
        """Two units belong together when the sets of axes in which they occur have the same (hashed) signature."""
        listed: list[tuple[Value, int]] = []
        arrays: list[Axis] = []
        for value, axes in channels.axes.items():
            for index, axis in enumerate(axes):
                if len(axis) > 1:
                    listed.append((value, index))
                    arrays.append(axis)
        lengths = np.array([len(axis) for axis in arrays], np.int64)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        roots = channels.classes.resolve(np.concatenate(arrays)) if arrays else np.zeros(0, np.int64)
        owner = np.repeat(np.arange(len(listed)), lengths)
        free = roots > 0
        pairs = np.unique(np.stack([roots[free], owner[free]]), axis=1) if free.any() else np.zeros((2, 0), np.int64)
        hashes = np.random.default_rng(_HASH_SEED).integers(1 << 62, size=len(listed), dtype=np.uint64)
        units, first = np.unique(pairs[0], return_index=True)
        signatures = np.add.reduceat(hashes[pairs[1]], first) if len(units) else np.zeros(0, np.uint64)
        group_of, unit_of = np.full((2, len(channels.classes)), -1, np.int64)
        _, appearance, inverse, sizes = np.unique(
            signatures, return_index=True, return_inverse=True, return_counts=True
        )
        rank = np.argsort(np.argsort(appearance))  # groups in the order of their first unit
        group_of[units] = rank[inverse]
        order = np.argsort(group_of[units], kind="stable")
        sizes = sizes[np.argsort(appearance)]
        unit_of[units[order]] = np.arange(len(units)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return _Incidence(tuple(listed), starts, roots, group_of, unit_of, sizes)

    @property
    def count(self) -> int:
        """Number of groups."""
        return len(self.sizes)

    def split(self, roots: np.ndarray) -> list[tuple[int, np.ndarray]]:
        """The groups along an axis, each with the units at every position."""
        group = self.group_of[roots]
        return [
            (int(number), np.where(group == number, self.unit_of[roots], -1)) for number in np.unique(group[group >= 0])
        ]

    def axes(self) -> list[tuple[Value, int, np.ndarray]]:
        """Value, axis index and representatives of each axis with a free position."""
        spans = zip(self.values, self.starts[:-1], self.starts[1:], strict=True)
        runs = ((value, index, self.roots[start:end]) for (value, index), start, end in spans)
        return [(value, index, roots) for value, index, roots in runs if roots.any()]


def _name(constants: tuple[Place, ...]) -> str:
    place = next((place for place in constants if _writers(place)), constants[0])
    return f"{label(place.value)}[{place.axis}]"


def _writers(place: Place) -> list[Node]:
    """The linear operators whose weight this is, if the units are their outputs."""
    return [layer.node for layer in linear_ops_of(place.value) if layer.out_axis == place.axis]


def _unique(name: str, names: set[str]) -> str:
    """Units of one axis may fall into several groups: the later ones are numbered."""
    numbered, count = name, 2
    while numbered in names:
        numbered, count = f"{name}#{count}", count + 1
    names.add(numbered)
    return numbered


# -- what is pinned -------------------------------------------------------------------------------------------


def _pinned(model: Model, channels: Channels) -> tuple[PinnedAxis, ...]:
    """Weights without a free position: along their output axis, or, where they have none, along all of their axes."""
    pinned: dict[str, PinnedAxis] = {}
    for node in model.graph:
        op = linear_op_of(node)
        for index, value in enumerate(node.inputs):
            stored = value is not None and (is_constant(value) or value.is_initializer())  # the caller may override it
            axes = channels.axes.get(value, ()) if value is not None and stored else ()
            if value is None or len(axes) < 2 or not is_weight(node, index, value):
                continue
            own = op is not None and op.weight_index == index
            for place in [op.out_axis] if own and op is not None else range(len(axes)):
                where, axis = f"{label(value)}[{place}]", axes[place]
                if len(axis) > 1 and channels.classes.is_pinned(axis).all():
                    pinned.setdefault(where, PinnedAxis(where, len(axis), channels.classes.reason(int(axis[-1])) or ""))
    return tuple(pinned.values())
