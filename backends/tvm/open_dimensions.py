"""The open dimensions of a model's inputs: sizes of their own, and sums of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from graphpress.backend import ShapeRange
from graphpress.errors import UsageError
from graphpress.ir import Model, Value

SUM = re.compile(r"[A-Za-z_]\w*(\s*\+\s*\w+)+")
"""A dimension that exporters name by what it is: ``past_sequence_length + sequence_length``."""


class OpenDimensions:
    """The open dimensions of a model's inputs beside the number of samples.

    Attributes:
        names: of those that are sizes of their own, in the order of the inputs.
    """

    def __init__(self, model: Model) -> None:
        self._inputs = {value.name or "": _dimension_names(value) for value in model.graph.inputs}
        named = [name for dims in self._inputs.values() for name in dims if isinstance(name, str)]
        self._terms = {name: _summands(name, named) for name in named}
        self.names = list(dict.fromkeys(term for terms in self._terms.values() for term in terms if term in named))

    def shapes(self, sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        """Of all inputs, of one sample."""
        return {
            name: tuple(self._size(dim, sizes) if isinstance(dim, str) else dim for dim in dims)
            for name, dims in self._inputs.items()
        }

    def limits(self, ranges: Mapping[str, ShapeRange], end: str) -> dict[str, int]:
        """What the user said of the sizes.

        Args:
            ranges: by input.
            end: ``min`` or ``max``.

        Raises:
            UsageError: two inputs say different things, or one says of a sum what its parts do not.
        """
        known: dict[str, int] = {}
        said = [(name, *each) for name, shapes in ranges.items() for each in self._sizes_of(name, getattr(shapes, end))]
        for name, dim, size in said:
            if dim in self.names and known.setdefault(dim, size) != size:
                what = f"{dim} is at {end} both {known[dim]} and {size}"
                raise UsageError(what, where=f"--input-range {name}", fix="give all inputs the same sizes")
        for name, dim, size in said:
            self._check_sum(name, dim, (end, size), known)
        return known

    def _sizes_of(self, name: str, shape: Sequence[int]) -> list[tuple[str, int]]:
        """The open dimensions of an input, and their sizes in a shape."""
        return [(dim, size) for dim, size in zip(self._inputs[name], shape, strict=True) if isinstance(dim, str)]

    def _check_sum(self, name: str, dim: str, said: tuple[str, int], known: Mapping[str, int]) -> None:
        """Refuse a size of a sum, such as that of a mask of a cache and what is new, that is not that of its parts.

        Raises:
            UsageError: it is another, or a part's is not known.
        """
        (end, size), where = said, f"--input-range {name}"
        parts = [term for term in self._terms[dim] if term in self.names]
        if missing := [part for part in parts if part not in known]:
            what = f"{dim} is at {end} {size}, which does not say what {' and '.join(missing)} is"
            raise UsageError(
                what, where=where, fix=f"give the inputs of {' and of '.join(missing)} an --input-range, too"
            )
        if (total := self._size(dim, known)) != size:
            said_of = ", ".join(f"{part} is {known[part]}" for part in parts)
            raise UsageError(f"{dim} is at {end} {size}, but {said_of}", where=where, fix=f"write {total} for {dim}")

    def small(self, ranges: Mapping[str, ShapeRange]) -> dict[str, int]:
        """Sizes that are small and differ from each other."""
        lowest, highest = self.limits(ranges, "min"), self.limits(ranges, "max")
        wanted = {name: max(lowest.get(name, 1), 2 + number) for number, name in enumerate(self.names)}
        return {name: min(size, highest.get(name, size)) for name, size in wanted.items()}

    def _size(self, dim: str, sizes: Mapping[str, int]) -> int:
        return sum(sizes[term] if term in sizes else int(term) for term in self._terms[dim])


def _dimension_names(value: Value) -> list[int | str]:
    """Sizes, or names of open ones; the number of samples is one."""
    dims = list(value.shape or ())
    if dims and not isinstance(dims[0], int):
        dims[0] = 1
    return [dim if isinstance(dim, int) else dim.value or f"{value.name} axis {axis}" for axis, dim in enumerate(dims)]


def _summands(name: str, named: Sequence[str]) -> list[str]:
    """The sizes and numbers that a dimension is the sum of; itself where it is none."""
    terms = [term.strip() for term in name.split("+")]
    known = all(term in named or term.isdigit() for term in terms)
    return terms if SUM.fullmatch(name) and known else [name]
