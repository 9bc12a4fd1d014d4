"""Cost of a model as a function of how many units of each coupled group stay, without touching the graph.

An axis has the positions that belong to no group and, for each group that lies along it, its share of the kept units:

    size(axis) = whole + Σ_g kept(g) · positions(g, axis) / size(g)

The cost of a node is the operator table's rule on the shapes that follow. It is exactly the cost of the model after
the removal where each unit of a group has as many positions on an axis as every other; else positions count by their
mean, and the size is rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from graphpress.analysis.cost import LayerCost, LayerCounter, costed_nodes
from graphpress.analysis.views import shape_of, view_of
from graphpress.coupling.groups import Coupling, Group
from graphpress.ir import Dims, Model, Node, NodeView, Value, readers

Price = Callable[[NodeView, LayerCost], float]
"""Seconds of one node, from its shapes and what they cost."""


@dataclass(frozen=True)
class Totals:
    """What a whole model costs.

    Args:
        units: units of all groups that stay.
        macs: multiply-accumulates.
        parameters: elements of all weights.
        traffic: bytes that nodes read and write.
        seconds: the sum of the nodes' prices; 0 without a price.
    """

    units: int
    macs: int
    parameters: int
    traffic: int
    seconds: float


class GroupCosts:
    """Costs of a model at the current kept counts; they start whole.

    Changing one count evaluates anew only the nodes that read or write a value in which the group lies.

    Args:
        model: the model, not changed.
        coupling: its groups.
        price: seconds of a node, for ``Totals.seconds``.

    Attributes:
        sizes: number of units by group, in graph order.
        full: the whole model's cost.
    """

    def __init__(
        self,
        model: Model,
        coupling: Coupling,
        *,
        price: Price | None = None,
    ) -> None:
        self._model, self._coupling, self._price = model, coupling, price
        self._shapes = dict(coupling.shapes)
        self.sizes = {group.name: group.size for group in coupling.groups}
        self._counts = dict(self.sizes)
        self._positions = {group.name: _positions(group) for group in coupling.groups}
        self._extents = _extents(coupling, self._shapes)
        self._nodes = list(costed_nodes(model))
        self._before, self._layers = self._count_once()
        self._prices = [self._price_of(index, layer) for index, layer in enumerate(self._layers)]
        self._touched, self._groups_at = self._links()
        self._known: list[dict[tuple[int, ...], tuple[LayerCost, float]]] = [{} for _ in self._nodes]
        self.full = self._totals = Totals(
            sum(self.sizes.values()),
            sum(layer.macs for layer in self._layers),
            sum(layer.parameters for layer in self._layers),
            sum(layer.traffic for layer in self._layers),
            sum(self._prices),
        )

    def priced(self, price: Price) -> GroupCosts:
        """Costs of the same model, whole, with seconds."""
        return GroupCosts(self._model, self._coupling, price=price)

    # -- asking -------------------------------------------------------------------------------------------

    @property
    def counts(self) -> dict[str, int]:
        """Kept units by group, as they are now."""
        return dict(self._counts)

    @property
    def totals(self) -> Totals:
        """The cost at the current counts."""
        return self._totals

    def layers(self) -> list[tuple[NodeView, LayerCost]]:
        """Every node with its current shapes and what they cost, in graph order."""
        return [(self.view(node), layer) for node, layer in zip(self._nodes, self._layers, strict=True)]

    def view(self, node: Node) -> NodeView:
        """A node with its current shapes."""
        self._refresh(node)
        return view_of(node, self._shapes)

    def groups_in(self, value: Value | None) -> list[str]:
        """The groups that lie along some axis of a value."""
        extents = self._extents.get(value, []) if value is not None else []
        return list(dict.fromkeys(name for extent in extents for name in extent.shares))

    def positions(self, name: str) -> int:
        """How many positions one unit has along the shortest axis of a constant that it lies in."""
        return self._positions[name]

    # -- changing -----------------------------------------------------------------------------------------

    def keep(self, name: str, count: int) -> Totals:
        """Let so many units of a group stay; the cost that follows."""
        return self.keep_all({name: count})

    def keep_all(self, counts: Mapping[str, int]) -> Totals:
        """Let so many units of each of these groups stay; the cost that follows. Groups not named stay as they are."""
        changed = [name for name in sorted(counts) if counts[name] != self._counts[name]]
        units = sum(counts[name] - self._counts[name] for name in changed)
        self._counts.update((name, counts[name]) for name in changed)
        self._evaluate(units, sorted({index for name in changed for index in self._touched[name]}))
        return self._totals

    def trial(self, name: str, count: int) -> Totals:
        """The cost if so many units of a group stayed; nothing changes."""
        now, totals = self._counts[name], self._totals
        tried = self.keep(name, count)
        self.keep(name, now)
        self._totals = totals  # to the last bit, whatever sums there and back round to
        return tried

    def _evaluate(self, units: int, indices: Iterable[int]) -> None:
        macs = parameters = traffic = 0
        seconds = 0.0
        for index in indices:
            new, price = self._layer(index)
            old = self._layers[index]
            macs += new.macs - old.macs
            parameters += new.parameters - old.parameters
            traffic += new.traffic - old.traffic
            seconds += price - self._prices[index]
            self._layers[index], self._prices[index] = new, price
        now = self._totals
        self._totals = Totals(
            now.units + units,
            now.macs + macs,
            now.parameters + parameters,
            now.traffic + traffic,
            now.seconds + seconds,
        )

    def _layer(self, index: int) -> tuple[LayerCost, float]:
        """Cost and price of a node, remembered by the counts of the groups that it touches."""
        key = tuple(self._counts[name] for name in self._groups_at[index])
        known = self._known[index].get(key)
        if known is None:
            self._refresh(self._nodes[index])
            layer = LayerCounter(self._shapes, self._before[index]).layer(self._nodes[index])
            known = self._known[index][key] = (layer, self._price_of(index, layer))
        return known

    def _refresh(self, node: Node) -> None:
        """Bring the shapes of what a node reads and writes up to the current counts."""
        for value in (*node.inputs, *node.outputs):
            if value is not None and value in self._extents:
                self._shapes[value.name or ""] = tuple(extent.size(self._counts) for extent in self._extents[value])

    def _price_of(self, index: int, layer: LayerCost) -> float:
        return 0.0 if self._price is None else self._price(view_of(self._nodes[index], self._shapes), layer)

    # -- what depends on what -----------------------------------------------------------------------------

    def _count_once(self) -> tuple[list[frozenset[Value]], list[LayerCost]]:
        """For each node the constants that an earlier one has counted, and its cost."""
        counter = LayerCounter(self._shapes)
        before, layers = [], []
        for node in self._nodes:
            before.append(frozenset(value for value in node.inputs if value is not None and value in counter.counted))
            layers.append(counter.layer(node))
        return before, layers

    def _links(self) -> tuple[dict[str, list[int]], list[list[str]]]:
        """By group the numbers of the nodes that read or write a value in which it lies; by node its groups."""
        values: dict[str, list[Value]] = {name: [] for name in self.sizes}
        for value, extents in self._extents.items():
            for name in dict.fromkeys(name for extent in extents for name in extent.shares):
                values[name].append(value)
        number = {node: index for index, node in enumerate(self._nodes)}
        touched = {
            name: sorted({number[node] for value in members for node in _users(value) if node in number})
            for name, members in values.items()
        }
        groups_at: list[list[str]] = [[] for _ in self._nodes]
        for name, indices in touched.items():
            for index in indices:
                groups_at[index].append(name)
        return touched, groups_at


@dataclass
class _Extent:
    """How long an axis is.

    Args:
        whole: positions that belong to no group.
        shares: by group, positions of one unit (the mean over its units).
    """

    whole: int
    shares: dict[str, float]

    def size(self, counts: Mapping[str, int]) -> int:
        """Positions at these counts; one at least."""
        return max(1, round(self.whole + sum(share * counts[name] for name, share in self.shares.items())))


def _extents(coupling: Coupling, shapes: Mapping[str, Dims]) -> dict[Value, list[_Extent]]:
    """The axes of every value in which a group lies and whose shape is known."""
    extents: dict[Value, list[_Extent]] = {}
    for group in coupling.groups:
        for place in (*group.constants, *group.features):
            shape = shape_of(place.value, shapes)
            if shape is None:
                continue
            extent = extents.setdefault(place.value, [_Extent(size, {}) for size in shape])[place.axis]
            positions = int((place.units >= 0).sum())
            extent.whole -= positions
            extent.shares[group.name] = extent.shares.get(group.name, 0.0) + positions / group.size
    return extents


def _positions(group: Group) -> int:
    return max(1, min(int((place.units >= 0).sum()) for place in group.constants) // group.size)


def _users(value: Value) -> list[Node]:
    producer = value.producer()
    return [*([] if producer is None else [producer]), *readers(value)]
