"""The equation of an Einsum, with every axis named.

    "...ij, ...jk"   of ranks 4 and 3   is   2 1 i j, 1 j k -> 2 1 i k

The axes of an ellipsis are numbered from its end, as they are aligned. Without an arrow, the result has the ellipsis
and then the letters that stand once, in alphabetical order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_ELLIPSIS = "..."


@dataclass(frozen=True)
class Equation:
    """The labels of axes: letters, and numbers for those of an ellipsis.

    Args:
        terms: of each operand.
        result: of the result.
    """

    terms: tuple[tuple[str, ...], ...]
    result: tuple[str, ...]

    @property
    def ellipsis(self) -> int:
        """How many axes the ellipsis stands for."""
        return max((sum(map(str.isdigit, term)) for term in self.terms), default=0)


def parse_equation(equation: str, ranks: Sequence[int]) -> Equation:
    """The equation between operands of these ranks.

    Raises:
        ValueError: it has more or fewer terms than there are operands.
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = tuple(_labels(term, rank) for term, rank in zip(left.split(","), ranks, strict=True))
    if not arrow:
        right = (_ELLIPSIS if _ELLIPSIS in left else "") + _letters_that_stand_once(left)
    named = Equation(terms, ())
    return Equation(terms, _labels(right, len(right.replace(_ELLIPSIS, "")) + named.ellipsis))


def _labels(term: str, rank: int) -> tuple[str, ...]:
    before, dots, after = term.partition(_ELLIPSIS)
    hidden = rank - len(before) - len(after) if dots else 0
    return (*before, *(str(hidden - place) for place in range(hidden)), *after)


def _letters_that_stand_once(terms: str) -> str:
    return "".join(sorted(letter for letter in terms if letter.isalpha() and terms.count(letter) == 1))
