"""Equations name the axes that numpy sums over."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphpress.ops.semantics.einsum import parse_equation


@pytest.mark.parametrize(
    ("equation", "ranks", "terms", "result"),
    [
        ("ij, jk", [2, 2], ["ij", "jk"], "ik"),
        ("ij->", [2], ["ij"], ""),
        ("ii", [2], ["ii"], ""),
        ("bA, Ac -> cb", [2, 2], ["bA", "Ac"], "cb"),
        ("...ij, ...jk", [4, 3], ["21ij", "1jk"], "21ik"),
        ("i...", [3], ["i21"], "21i"),
        ("...i->i", [3], ["21i"], "i"),
        ("...", [0], [""], ""),
    ],
)
def test_every_axis_is_named(equation, ranks, terms, result):
    parsed = parse_equation(equation, ranks)
    assert ["".join(term) for term in parsed.terms] == terms
    assert "".join(parsed.result) == result


def test_a_term_too_many_is_an_error():
    with pytest.raises(ValueError, match="zip"):
        parse_equation("i,j", [1])


@st.composite
def equations(draw):
    """An equation with ellipses, and the shapes of its operands."""
    sizes = {letter: draw(st.integers(1, 3)) for letter in "abc"}
    hidden = draw(st.lists(st.integers(1, 2), max_size=2))
    terms, shapes = [], []
    for _ in range(draw(st.integers(1, 3))):
        letters = draw(st.permutations("abc"))[: draw(st.integers(0, 3))]
        own = hidden[draw(st.integers(0, len(hidden))) :]
        before, after = letters[: len(letters) // 2], letters[len(letters) // 2 :]
        terms.append("".join(before) + "..." + "".join(after))
        shapes.append([*(sizes[letter] for letter in before), *own, *(sizes[letter] for letter in after)])
    return ",".join(terms), shapes


@given(equations())
def test_sums_are_those_of_numpy(case):
    equation, shapes = case
    operands = [np.arange(np.prod(shape), dtype=float).reshape(shape) for shape in shapes]
    parsed = parse_equation(equation, [len(shape) for shape in shapes])
    axes = {label: index for index, label in enumerate(sorted({label for term in parsed.terms for label in term}))}
    arguments = []
    for operand, term in zip(operands, parsed.terms, strict=True):
        arguments += [operand, [axes[label] for label in term]]
    ours = np.einsum(*arguments, [axes[label] for label in parsed.result])
    np.testing.assert_array_equal(ours, np.einsum(equation, *operands))
