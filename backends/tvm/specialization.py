"""A model with known shapes: of one sample, and where sizes of sequences stay open, of the largest.

What exporters compute of shapes is constant once shapes are known. Where a size is open, the model is specialized at
several sizes, the smallest and the largest among them, and compared: an extent has to grow with the sizes linearly, and
a constant (a mask, a table of positions) of smaller sizes has to be the beginning of that of the largest, or a part of
a larger one that begins where a size says (positions behind a cache). Nothing else can stay open, and is refused by
name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, permutations
from typing import cast

import numpy as np

from graphpress.analysis.shapes import concrete_shapes, infer_shapes
from graphpress.backend import ShapeRange
from graphpress.backends.tvm.codegen.extent import Extent, RunTimeSize, value_at
from graphpress.backends.tvm.lowering.constants import fold_constants
from graphpress.backends.tvm.lowering.open_axes import OpenSizeError, declare_open_axes, declare_window, is_only_a_shape
from graphpress.backends.tvm.lowering.open_nodes import check_open_axes
from graphpress.backends.tvm.lowering.rules.windowing import DOMAIN, WINDOW
from graphpress.backends.tvm.open_dimensions import OpenDimensions
from graphpress.backends.tvm.program import OpenSize
from graphpress.errors import GraphpressError
from graphpress.ir import Editor, Model, Node, Shape, Value, clone, dims_of, label, static_shape, values_of

LARGEST_SIZES = (512, 256, 128, 64, 32, 16, 8)
"""Sizes that an open dimension has at most where nobody says, in the order in which they are tried: tables of positions
end somewhere."""
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Specialization:
    """A model as it is lowered.

    Args:
        model: a copy in which all shapes are known.
        batch_axes: which axis of each value counts samples, by name, of those that have one; None where their number
            is fixed.
        sizes: that stay open.
        smallest: shapes of all inputs, of one sample and small sizes.
    """

    model: Model
    batch_axes: Mapping[str, int] | None
    sizes: Sequence[OpenSize]
    smallest: Shapes

    @property
    def is_batched(self) -> bool:
        """Whether the number of samples is open."""
        return self.batch_axes is not None


def specialize(annotated: Model, ranges: Mapping[str, ShapeRange] | None = None) -> Specialization:
    """A model as it is lowered: of one sample where their number is open, of the largest sizes where others are.

    Args:
        annotated: the model.
        ranges: of shapes of inputs, as far as the user said something.

    Raises:
        OpenSizeError: a size cannot stay open.
    """
    batch_axes = _batch_axes(annotated)
    dimensions = OpenDimensions(annotated)
    if not dimensions.names:
        return Specialization(specialized(annotated), batch_axes, (), _input_shapes(annotated, 1))
    small = dimensions.small(ranges or {})
    probes = [_Probe(annotated, dimensions, sizes) for sizes in (small, *_one_more_each(small))]
    sizes, top = _largest(annotated, dimensions, ranges or {}, (probes, _growth(*probes)))
    return Specialization(top.model, batch_axes, sizes, probes[0].inputs)


def specialized(annotated: Model, inputs: Shapes | None = None) -> Model:
    """A copy in which all shapes are known, of one image where their number is open, and what follows from them.

    Args:
        annotated: the model.
        inputs: shapes of inputs; the likeliest by default.
    """
    model = clone(annotated)
    shapes = concrete_shapes(model, inputs or _input_shapes(model, 1))
    for value in values_of(model.graph):
        if (known := shapes.get(value.name or "")) is not None:
            value.shape = Shape(known)
    infer_shapes(model)  # and types, where passes left them open
    fold_constants(model)
    return model


def is_batched(model: Model) -> bool:
    """Whether the number of samples is open."""
    return any((dims := dims_of(value)) and dims[0] is None for value in model.graph.inputs)


# -- samples ------------------------------------------------------------------------------------------------------


def _batch_axes(annotated: Model) -> dict[str, int] | None:
    """Which axis of each value counts images, by name, of those that have one; None where their number is fixed."""
    if not is_batched(annotated):
        return None
    one, two = (concrete_shapes(annotated, _input_shapes(annotated, images)) for images in (1, 2))
    grown = {name: _grown_axes(shape, two.get(name, ())) for name, shape in one.items()}
    return {name: axes[0] for name, axes in grown.items() if len(axes) == 1}


def _grown_axes(shape: tuple[int, ...], other: tuple[int, ...]) -> list[int]:
    return [axis for axis, sizes in enumerate(zip(shape, other, strict=False)) if sizes[0] != sizes[1]]


def _input_shapes(model: Model, images: int) -> dict[str, tuple[int, ...]]:
    """Likely shapes of all inputs, of so many images where their number is open."""
    likely = concrete_shapes(model)
    return {value.name or "": _with_images(value, likely[value.name or ""], images) for value in model.graph.inputs}


def _with_images(value: Value, likely: tuple[int, ...], images: int) -> tuple[int, ...]:
    dims = dims_of(value)
    return (images, *likely[1:]) if dims and dims[0] is None else likely


# -- sizes --------------------------------------------------------------------------------------------------------


def _largest(
    model: Model, dimensions: OpenDimensions, ranges: Mapping[str, ShapeRange], small: tuple[Sequence[_Probe], Growth]
) -> tuple[list[OpenSize], _Probe]:
    """The largest sizes, as the user says, or those at which the model still computes the same; and it with them.

    Raises:
        OpenSizeError: it computes the same at none of them.
    """
    lowest, highest = dimensions.limits(ranges, "min"), dimensions.limits(ranges, "max")
    candidates = (0,) if all(name in highest for name in dimensions.names) else LARGEST_SIZES
    for largest in candidates:
        maxima = {name: highest.get(name, largest) for name in dimensions.names}
        sizes = {name: RunTimeSize(number, maxima[name]) for number, name in enumerate(dimensions.names)}
        top = _Probe(model, dimensions, maxima)
        try:
            opened = _open_axes(top, small, sizes)
            windows = _Windows(model, dimensions, (top, *small[0]), sizes)
            minima, parts = _smallest(windows, opened, lowest)
        except OpenSizeError:
            if largest == candidates[-1]:
                raise
            continue
        declare_open_axes(opened)
        _place_windows(top.model, parts, opened)
        return [OpenSize(name, size, minima[name]) for name, size in sizes.items()], top
    raise AssertionError("there are candidates")


def _one_more_each(sizes: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """Each of the sizes in turn larger by one."""
    return ({**sizes, name: size + 1} for name, size in sizes.items())


def _smallest(
    windows: _Windows, opened: Mapping[Value, Mapping[int, Extent]], lowest: Mapping[str, int]
) -> tuple[Mapping[str, int], Parts]:
    """The smallest sizes at which the model still computes the same, and the constants that it takes parts of.

    Args:
        windows: where those are looked for.
        opened: the open axes of all values of the largest model.
        lowest: what the user said of the sizes, by name. A size of which nobody said more than one may be nothing,
            where it is but a part of others (a past).

    Raises:
        OpenSizeError: it computes something else at the smallest sizes.
    """
    inner = [extent for value, axes in opened.items() if not value.is_graph_input() for extent in axes.values()]
    said = {name: lowest.get(name, 1) for name in windows.sizes}
    optional = [name for name, size in windows.sizes.items() if said[name] == 1 and _is_but_a_part(size, inner)]
    try:
        nothing = said | dict.fromkeys(optional, 0)
        return nothing, windows.parts_from(nothing, opened)
    except OpenSizeError:
        if not optional:
            raise
    return said, windows.parts_from(said, opened)


def _is_but_a_part(size: RunTimeSize, extents: Sequence[Extent]) -> bool:
    """Whether no extent is nothing where a size is."""
    return all(extent.evaluated(lambda other: 0 if other == size else 1) > 0 for extent in extents)


class _Probe:
    """A model, specialized at some sizes.

    Args:
        model: the model.
        dimensions: of its inputs.
        sizes: by name.
    """

    def __init__(self, model: Model, dimensions: OpenDimensions, sizes: Mapping[str, int]) -> None:
        self.sizes, self.inputs = sizes, dimensions.shapes(sizes)
        self.model = specialized(model, self.inputs)
        self.values = {value.name or "": value for value in values_of(self.model.graph)}

    def difference(self, other: _Probe) -> str:
        """The first node that reads or computes other values than in another model, as text; None without one."""
        pairs = zip(self.model.graph, other.model.graph, strict=False)
        differing = next((mine for mine, theirs in pairs if _names_of(mine) != _names_of(theirs)), None)
        if differing is None and len(list(self.model.graph)) != len(list(other.model.graph)):
            differing = max((list(self.model.graph), list(other.model.graph)), key=len)[-1]
        return "" if differing is None else f"node {label(differing)}"


def _names_of(node: Node) -> object:
    """What a node reads and computes."""
    return node.op_type, [value and value.name for value in node.inputs], [value.name for value in node.outputs]


# -- what grows ---------------------------------------------------------------------------------------------------

Terms = Mapping[str, int]
"""How often an extent has which size, by name; without a name, what it has beside them."""
Growth = Mapping[str, Mapping[int, Terms]]
"""The open axes of values, by name."""


def _growth(below: _Probe, *others: _Probe) -> Growth:
    """What grows with each size, from small sizes and others, each of one size more.

    Raises:
        OpenSizeError: another graph comes of other sizes, or a node is not known to be right at all of them.
    """
    growth: dict[str, dict[int, Terms]] = {}
    for name, value in below.values.items():
        shapes = [static_shape(each) for each in (value, *_alike(name, value, others))]
        if all(shape == shapes[0] for shape in shapes):
            continue
        if any(shape is None or len(shape) != len(shapes[0] or ()) for shape in shapes):
            raise OpenSizeError("its shape is not known at all sizes", where=f"value {label(value)}")
        growth[name] = dict(_grown_terms(cast("list[tuple[int, ...]]", shapes), below.sizes))
    declare_open_axes({below.values[name]: axes for name, axes in growth.items()})
    for node in below.model.graph:
        check_open_axes(node)
    return growth


def _grown_terms(shapes: Sequence[tuple[int, ...]], sizes: Mapping[str, int]) -> Iterator[tuple[int, Terms]]:
    """The open axes of a value, from its shape at some sizes, and at each size one more."""
    for axis, (extent, *grown) in enumerate(zip(*shapes, strict=True)):
        terms = {name: more - extent for name, more in zip(sizes, grown, strict=True) if more != extent}
        if terms:
            yield axis, terms | {"": extent - sum(times * sizes[name] for name, times in terms.items())}


def _open_axes(
    top: _Probe, small: tuple[Sequence[_Probe], Growth], sizes: Mapping[str, RunTimeSize]
) -> dict[Value, dict[int, Extent]]:
    """The open axes of all values of the largest model.

    Args:
        top: the model of the largest sizes.
        small: those of small ones, and what grows from the first.
        sizes: by name.

    Raises:
        OpenSizeError: an extent grows otherwise than linearly.
    """
    (below, *_), growth = small
    if difference := top.difference(below):
        raise OpenSizeError("another graph comes of other sizes", where=difference)
    opened: dict[Value, dict[int, Extent]] = {}
    for name, value in top.values.items():
        grown = growth.get(name, {})
        opened[value] = {
            axis: Extent({(sizes[term],) if term else (): times for term, times in terms.items()})
            for axis, terms in grown.items()
        }
        shape, smaller = (static_shape(each.values[name]) for each in (top, below))
        extents = [opened[value].get(axis, extent) for axis, extent in enumerate(smaller or ())]
        if [*map(int, extents)] != list(shape or ()):
            raise OpenSizeError("it does not grow linearly with the open sizes", where=f"value {label(value)}")
    return opened


def _alike(name: str, value: Value, probes: Sequence[_Probe]) -> list[Value]:
    """The same value at other sizes.

    Raises:
        OpenSizeError: there is none.
    """
    if any(name not in probe.values for probe in probes):
        raise OpenSizeError("it is computed at some sizes only", where=f"value {label(value)}")
    return [probe.values[name] for probe in probes]


# -- constants ----------------------------------------------------------------------------------------------------


Parts = Mapping[str, tuple[np.ndarray, Mapping[int, Extent]]]
"""Larger constants that others are parts of, by their names, and where those begin in them, by axis."""


class _Windows:
    """Looks for larger constants that those of all sizes are parts of.

    Args:
        model: the model.
        dimensions: of its inputs.
        probes: it at the largest sizes, and at small ones, of which those that are no larger count.
        sizes: by name.
    """

    def __init__(
        self, model: Model, dimensions: OpenDimensions, probes: Sequence[_Probe], sizes: Mapping[str, RunTimeSize]
    ) -> None:
        self._model, self._dimensions, self.sizes = model, dimensions, sizes
        self._top, *others = self._probes = list(probes)
        self._others = [each for each in others if all(each.sizes[name] <= self._top.sizes[name] for name in sizes)]
        self._known: dict[tuple[str, str], _Probe | None] = {}

    def parts_from(self, smallest: Mapping[str, int], opened: Mapping[Value, Mapping[int, Extent]]) -> Parts:
        """What constants that do not begin as those of smaller sizes do are parts of.

        Args:
            smallest: sizes.
            opened: the open axes of all values of the largest model.

        Raises:
            OpenSizeError: a constant is no such part, or the model is another at the smallest sizes.
        """
        self._probes = [self._top, self._at(smallest, opened), *self._others]
        moved = (name for name, value in self._top.values.items() if not self._begins_as_all(name, value))
        return {name: self.of(name) for name in moved}

    def _begins_as_all(self, name: str, value: Value) -> bool:
        return is_only_a_shape(value) or all(_begins_as(value, each.values[name]) for each in self._probes)

    def _at(self, smallest: Mapping[str, int], opened: Mapping[Value, Mapping[int, Extent]]) -> _Probe:
        """The model at the smallest sizes, where it has to be the one of the largest.

        Raises:
            OpenSizeError: it is another.
        """
        where = f"sizes {', '.join(f'{name} = {size}' for name, size in smallest.items())}"
        try:
            probe = _Probe(self._model, self._dimensions, smallest)
        except GraphpressError as error:
            raise OpenSizeError(f"nothing can be computed of the smallest sizes: {error.what}", where=where) from error
        if difference := probe.difference(self._top):
            raise OpenSizeError(f"another graph comes of {where}", where=difference)
        run = {size: smallest[name] for name, size in self.sizes.items()}
        for name, value in self._top.values.items():
            shape = [opened[value].get(axis, extent) for axis, extent in enumerate(static_shape(value) or ())]
            (small,) = _alike(name, value, [probe])
            if [value_at(extent, run) for extent in shape] != list(static_shape(small) or ()):
                raise OpenSizeError(f"it does not shrink linearly to {where}", where=f"value {label(value)}")
        return probe

    def of(self, name: str) -> tuple[np.ndarray, dict[int, Extent]]:
        """A constant of no past and all length, and where in it a run's own begins.

        Raises:
            OpenSizeError: there is none.
        """
        for pair in permutations(self.sizes, 2):
            if pair not in self._known:
                self._known[pair] = self._wide(*pair)
            wide, moving = self._known[pair], pair[0]
            table = None if wide is None or name not in wide.values else wide.values[name].const_value
            if table is not None and (axes := self._moved_axes(name, table.numpy(), moving)) is not None:
                return table.numpy(), {axis: Extent.of(self.sizes[moving]) for axis in axes}
        raise OpenSizeError("what is computed of the open sizes moves with them", where=f"value {name}")

    def _wide(self, moving: str, growing: str) -> _Probe | None:
        """The model where one size is nothing and another as large as both together; None where it is another."""
        largest = {name: size.maximum for name, size in self.sizes.items()}
        sizes = largest | {moving: 0, growing: largest[moving] + largest[growing]}
        try:
            return _Probe(self._model, self._dimensions, sizes)
        except GraphpressError:
            return None

    def _moved_axes(self, name: str, table: np.ndarray, moving: str) -> tuple[int, ...] | None:
        """The axes along which a run's own constant begins where a size says; None where it is no part of the table."""
        subsets = chain.from_iterable(combinations(range(table.ndim), count) for count in range(1, table.ndim + 1))
        return next(
            (axes for axes in subsets if all(self._fits(p, name, table, axes, moving) for p in self._probes)), None
        )

    @staticmethod
    def _fits(probe: _Probe, name: str, table: np.ndarray, axes: tuple[int, ...], moving: str) -> bool:
        value = probe.values[name].const_value
        if value is None or len(value.shape) != table.ndim:
            return False
        first = [probe.sizes[moving] if axis in axes else 0 for axis in range(table.ndim)]
        part = tuple(slice(begin, begin + extent) for begin, extent in zip(first, value.numpy().shape, strict=True))
        return _is_same(table[part], value.numpy())


def _place_windows(model: Model, parts: Parts, opened: Mapping[Value, Mapping[int, Extent]]) -> None:
    """Nodes that take a run's own part of a larger constant, in place of that of the largest sizes."""
    edit = Editor(model)
    for value in [value for value in opened if value.name in parts]:
        table, starts = parts[value.name or ""]
        constant = edit.add_constant(table, f"{value.name}_table")
        first = next(iter(model.graph))
        (part,) = edit.add_node(WINDOW, [constant], before=first, domain=DOMAIN, name=f"{value.name}_window").outputs
        edit.copy_type(value, part)
        edit.replace(value, part)
        declare_open_axes({part: opened[value]})
        declare_window(part, starts)


def _begins_as(value: Value, other: Value) -> bool:
    """Whether a constant begins as that of smaller sizes; true of what is no constant."""
    if value.const_value is None or other.const_value is None or value.const_value is other.const_value:
        return True
    smaller = other.const_value.numpy()
    return _is_same(value.const_value.numpy()[tuple(map(slice, smaller.shape))], smaller)


def _is_same(array: np.ndarray, other: np.ndarray) -> bool:
    if array.dtype.kind == "f":  # vectorized functions round otherwise at the ends of arrays
        return array.shape == other.shape and np.allclose(array, other, rtol=1e-6, atol=1e-7, equal_nan=True)
    return np.array_equal(array, other)
