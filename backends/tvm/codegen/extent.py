"""Extents that are known when a model runs: lengths of sequences and of caches.

Everything is laid out for the largest sizes: an extent is an ``int``, its maximum, wherever a stride, a size of memory
or a tile is computed. How far a loop runs, how many tasks there are, and where a sum ends are the extent itself: a
polynomial of the run's sizes, with integer coefficients.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class RunTimeSize(NamedTuple):
    """A size that each run gives.

    Args:
        number: among those of the model.
        maximum: the largest.
    """

    number: int
    maximum: int


Monomial = tuple[RunTimeSize, ...]
"""Sizes that are multiplied, sorted; none for the constant."""


class Extent(int):
    """A polynomial of sizes, rounded up where it is divided; as a number, the value of the largest sizes.

    Two are equal if they are at all sizes, so that none equals a number.
    """

    terms: Mapping[Monomial, int]
    divisor: int

    def __new__(cls, terms: Mapping[Monomial, int], divisor: int = 1) -> Extent:
        """The extent ``⌈Σ terms / divisor⌉``; one of no sizes is refused by an assertion: it is an ``int``."""
        kept = {monomial: factor for monomial, factor in sorted(terms.items()) if factor}
        assert any(kept), "an extent of no sizes is a number"
        total = sum(_product((size.maximum for size in monomial), factor) for monomial, factor in kept.items())
        self = super().__new__(cls, -(-total // divisor))
        self.terms, self.divisor = kept, divisor
        return self

    @classmethod
    def of(cls, size: RunTimeSize) -> Extent:
        """A size itself."""
        return cls({(size,): 1})

    def __getnewargs__(self) -> tuple[Any, ...]:
        """For copies."""
        return self.terms, self.divisor

    @property
    def sizes(self) -> set[RunTimeSize]:
        """On which it depends."""
        return {size for monomial in self.terms for size in monomial}

    def pieces(self, size: int) -> Extent:
        """How many pieces of a size there are."""
        return Extent(self.terms, self.divisor * size)

    def evaluated(self, of: Callable[[RunTimeSize], T]) -> T:
        """The extent, where sizes are numbers, expressions or whatever else has ``+``, ``*`` and ``//``."""
        parts = [_product(map(of, monomial), factor) for monomial, factor in self.terms.items()]
        total: Any = parts[0]
        for part in parts[1:]:
            total = total + part
        value: T = total if self.divisor == 1 else (total + (self.divisor - 1)) // self.divisor
        return value

    def text(self, of: Callable[[RunTimeSize], str]) -> str:
        """The extent as an expression of C."""
        parts = [" * ".join([str(factor), *map(of, monomial)]) for monomial, factor in self.terms.items()]
        total = " + ".join(parts)
        return f"({total})" if self.divisor == 1 else f"(({total} + {self.divisor - 1}) / {self.divisor})"

    # -- arithmetic -------------------------------------------------------------------------------------------------

    def __add__(self, other: int) -> int:
        """A sum with an integer, of this kind or not.

        One that is rounded up has none: where its maximum is meant, write ``int(extent)``.
        """
        if not isinstance(other, int):
            return NotImplemented
        return _extent([*_terms(self), *_terms(other)])

    def __sub__(self, other: int) -> int:
        """As ``__add__``."""
        return self + other * -1

    def __rsub__(self, other: int) -> int:
        """As ``__add__``."""
        return self * -1 + other

    def __mul__(self, other: int) -> int:
        """As ``__add__``."""
        if not isinstance(other, int):
            return NotImplemented
        pairs = ((left, right) for left in _terms(self) for right in _terms(other))
        return _extent([(tuple(sorted((*a, *b))), factor * times) for (a, factor), (b, times) in pairs])

    __radd__, __rmul__ = __add__, __mul__

    def __eq__(self, other: object) -> bool:
        """Whether they are equal at all sizes."""
        return isinstance(other, Extent) and (self.terms, self.divisor) == (other.terms, other.divisor)

    def __ne__(self, other: object) -> bool:
        """Not equal at some."""
        return not self == other

    def __hash__(self) -> int:
        """Of what it is."""
        return hash((tuple(self.terms.items()), self.divisor))

    def __repr__(self) -> str:
        """With everything that code depends on."""
        return f"Extent({dict(self.terms)!r}, {self.divisor})"

    __str__ = int.__repr__


def value_at(extent: int, sizes: Mapping[RunTimeSize, int]) -> int:
    """An extent at some sizes."""
    return extent.evaluated(sizes.__getitem__) if isinstance(extent, Extent) else extent


def is_open(extents: Sequence[int]) -> bool:
    """Whether any extent is known at run time only."""
    return any(isinstance(extent, Extent) for extent in extents)


def extents_in(thing: object) -> Iterator[Extent]:
    """All extents in the fields of a dataclass, and of what is in them."""
    if isinstance(thing, Extent):
        yield thing
    elif dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        for field in dataclasses.fields(thing):
            yield from extents_in(getattr(thing, field.name))
    elif isinstance(thing, (tuple, list)):
        for part in thing:
            yield from extents_in(part)


def _extent(terms: Sequence[tuple[Monomial, int]]) -> int:
    """A polynomial; a number where nothing else is left of it."""
    total: dict[Monomial, int] = defaultdict(int)
    for monomial, factor in terms:
        total[monomial] += factor
    return Extent(total) if any(factor and monomial for monomial, factor in total.items()) else total[()]


def _terms(number: int) -> list[tuple[Monomial, int]]:
    """Those of a polynomial, of which a number has one."""
    if not isinstance(number, Extent):
        return [((), number)]
    assert number.divisor == 1, f"{number!r} is rounded up: write int(extent) for its maximum"
    return list(number.terms.items())


def _product(factors: Any, start: int) -> Any:
    total: Any = None
    for factor in factors:
        total = factor if total is None else total * factor
    if total is None:
        return start
    return total if start == 1 else total * start
