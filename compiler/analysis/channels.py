"""Which positions of which tensors depend on each other: classes carried through a graph by the table's axis rules.

Every axis of every weight starts with classes of its own; inputs of the graph, integer constants that are no weights
and whatever an operator outside the table touches are pinned, with the reason. Linear in the graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np

from graphpress.analysis.shapes import concrete_shapes
from graphpress.analysis.views import dtype_of, is_weight, shape_of, view_of
from graphpress.ir import Dims, Model, Node, UnknownShapeError, Value, is_constant, label, subgraphs_of
from graphpress.ir.encoding import encoding_of
from graphpress.ops import Axes, DependencyClasses, Flow, ProductConstraint, lookup

_ONE_BYTE = 8

MOST_POSITIONS = 1 << 27
"""Positions of all axes together that are followed, at some 25 bytes each; values that come after count as unknown."""


@dataclass
class Channels:
    """The classes of a graph.

    Args:
        classes: the algebra: what is united, what is pinned and why, product constraints.
        axes: for each value whose shape is known, the classes of its axes; constants included.
        notes: nodes whose rule could not be applied, and which are pinned for it.
    """

    classes: DependencyClasses
    axes: dict[Value, Axes] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def propagate(model: Model, shapes: Mapping[str, Dims] | None = None, *, keep_statistics: bool = True) -> Channels:
    """Carry classes through the main graph.

    Args:
        model: the model, not changed.
        shapes: static shapes by value name; ``concrete_shapes(model)`` when not given.
        keep_statistics: pin axes over which a normalization takes statistics.
    """
    channels = Channels(DependencyClasses(keep_statistics=keep_statistics))
    walk = _Walk(channels, concrete_shapes(model) if shapes is None else shapes)
    for value in model.graph.inputs:
        walk.pin_new(value, f"the graph input {label(value)}")
    for node in model.graph:
        if not is_constant(node.outputs[0] if node.outputs else None):
            walk.visit(node)
    for value in model.graph.outputs:
        walk.pin(value, f"the graph output {label(value)}")
    return channels


class _Walk:
    """One walk over a graph in topological order."""

    def __init__(self, channels: Channels, shapes: Mapping[str, Dims]) -> None:
        self.channels, self.shapes, self.classes = channels, shapes, channels.classes
        self.left = MOST_POSITIONS

    def visit(self, node: Node) -> None:
        """Give the outputs of a node their axes."""
        view = view_of(node, self.shapes)
        view = replace(view, output_shapes=tuple(map(self._followed, view.output_shapes)))
        flow = Flow(view, tuple(self.axes_of(value) for value in node.inputs), self.classes)
        decided = len(self.classes.products)
        results = self._apply(node, flow)
        self._hold_forgotten(flow, results, self.classes.products[decided:])
        for captured in _captured(node):
            self.pin(captured, f"a subgraph of {label(node)}")
        for value, axes, shape in zip(node.outputs, results, view.output_shapes, strict=True):
            if axes is not None and shape is not None:
                self.channels.axes[value] = tuple(self._settle(axis) for axis in axes)

    def axes_of(self, value: Value | None) -> Axes | None:
        """Axes of what a node reads; a constant gets its own the first time it is read."""
        if value is None or value in self.channels.axes or not is_constant(value):
            return None if value is None else self.channels.axes.get(value)
        if _may_shrink(value):
            if (shape := self._followed(shape_of(value, self.shapes))) is not None:
                self.channels.axes[value] = tuple(self.classes.fresh(size) for size in shape)
                self._keep_blocks(value)
        else:
            self.pin_new(value, f"the integer constant {label(value)}")
        return self.channels.axes.get(value)

    def _keep_blocks(self, value: Value) -> None:
        """Numbers that share a scale block by block, or an entry of a codebook, stay together."""
        encoding, axes = encoding_of(value), self.channels.axes[value]
        for axis in () if encoding is None else encoding.indivisible_axes(len(axes)):
            self.classes.pin(axes[axis], f"the quantized blocks of {label(value)}")

    def pin_new(self, value: Value, reason: str) -> None:
        """Pinned axes for a value that starts here."""
        shape = self._followed(shape_of(value, self.shapes))
        if shape is not None:
            self.channels.axes[value] = tuple(self.classes.pinned(size, reason) for size in shape)

    def pin(self, value: Value, reason: str) -> None:
        """Pin every axis of a value."""
        for axis in self.axes_of(value) or ():
            self.classes.pin(axis, reason)

    def _followed(self, shape: Dims | None) -> Dims | None:
        """The shape, whose positions are spent; None where there are not so many left."""
        if shape is None or sum(shape) > self.left:
            return None
        self.left -= sum(shape)
        return shape

    def _apply(self, node: Node, flow: Flow) -> Sequence[Axes | None]:
        spec = lookup(node.op_type, node.domain)
        if spec is None:
            return self._give_up(flow, f"{label(node)}: no axis rule for {node.op_type}")
        if (unknown := _unknown(flow)) is not None:
            return self._give_up(flow, f"{label(node)}: unknown shape of {label(unknown)}")
        try:
            results = spec.axes(flow)
        except UnknownShapeError as error:
            return self._give_up(flow, f"{label(node)}: unknown shape of {error}")
        except (ValueError, IndexError, TypeError) as error:  # a node whose shapes contradict its rule
            return self._give_up(flow, f"{label(node)}: {error}")
        fits = len(results) == len(flow.node.output_shapes) and all(map(_fits, results, flow.node.output_shapes))
        return results if fits else self._give_up(flow, f"{label(node)}: its shapes are not those of {node.op_type}")

    def _hold_forgotten(
        self, flow: Flow, results: Sequence[Axes | None], products: Sequence[ProductConstraint]
    ) -> None:
        """Pin axes of constants that a rule passed over: what it neither ties, pins nor hands on would look as if
        it could go.
        """
        given = [axes for value, axes in zip(flow.node.inputs, flow.axes, strict=True) if axes and is_constant(value)]
        if not given:
            return
        met = [axis for axes in (*flow.axes, *results) for axis in axes or ()]
        met += [axis for product in products for axis in (product.outer, product.inner, product.flat)]
        roots, counts = np.unique(self.classes.resolve(np.concatenate(met)), return_counts=True)
        for axis in (axis for axes in given for axis in axes if len(axis) > 1):
            own = self.classes.resolve(axis)
            if own.any() and (counts[np.searchsorted(roots, own)] == 1).all():
                flow.pin(axis, "an input that is not followed")

    def _give_up(self, flow: Flow, reason: str) -> Sequence[Axes | None]:
        self.channels.notes.append(reason)
        self.classes.pin_all(flow.axes, (), reason)
        return [None if shape is None else self.classes.pin_all((), shape, reason) for shape in flow.node.output_shapes]

    def _settle(self, axis: np.ndarray) -> np.ndarray:
        """An axis of size one cannot shrink; whatever was alone on it stays."""
        if len(axis) == 1 and axis[0]:
            self.classes.pin(axis, "the only position of an axis")
            return np.zeros(1, np.int64)
        return axis


def _unknown(flow: Flow) -> Value | None:
    """What a node reads or makes whose shape is not known: no rule can tell what is tied to it."""
    node = flow.node
    read = (value for value, axes in zip(node.inputs, flow.axes, strict=True) if value is not None and axes is None)
    made = (
        value
        for value, shape in zip(node.outputs, node.output_shapes, strict=True)
        if shape is None and (value.uses() or value.is_graph_output())
    )
    return next(chain(read, made), None)


def _may_shrink(value: Value) -> bool:
    """Whether a constant holds weights, rather than indices, sizes or flags."""
    dtype = dtype_of(value)
    if dtype is None or dtype.is_floating_point() or (dtype.is_integer() and dtype.bitwidth <= _ONE_BYTE):
        return True
    return any(is_weight(use.node, use.idx, value) for use in value.uses())


def _fits(axes: Axes | None, shape: Dims | None) -> bool:
    return axes is None or shape is None or tuple(len(axis) for axis in axes) == shape


def _captured(node: Node) -> Iterator[Value]:
    for subgraph in subgraphs_of(node):
        for inner in subgraph:
            yield from (value for value in inner.inputs if value is not None)
            yield from _captured(inner)
        yield from subgraph.outputs
