"""Expressions over vectors: constants, casts and limits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from tvm import tirx

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder

FLOAT = "float32"


def typed(dtype: str, lanes: int) -> str:
    """TIR's name of a vector type."""
    return dtype if lanes == 1 else f"{dtype}x{lanes}"


def splat(value: float | Expr, lanes: int, dtype: str = FLOAT) -> Expr:
    """A number in all lanes."""
    scalar = tirx.const(value, dtype) if isinstance(value, (int, float)) else value
    return scalar if lanes == 1 else tirx.Broadcast(scalar, lanes)


def is_zero(value: float | Expr) -> bool:
    """Whether a number is known to be zero: one that is read when the code runs is not."""
    return isinstance(value, (int, float)) and value == 0


def lowest(dtype: str, lanes: int) -> Expr:
    """A vector of the smallest value of a type; of floats, minus infinity."""
    if dtype == FLOAT:
        return splat(float("-inf"), lanes)
    return splat(0 if dtype.startswith("u") else -(1 << (8 * np.dtype(dtype).itemsize - 1)), lanes, dtype)


def folded(b: KernelBuilder, vector: Expr, lanes: int, combine: Callable[[Expr, Expr], Expr]) -> Expr:
    """All lanes combined into one number, half by half."""
    while lanes > 1:
        vector, lanes = b.let(vector), lanes // 2
        halves = [[tirx.const(start + lane, "int32") for lane in range(lanes)] for start in (0, lanes)]
        low, high = (tirx.Shuffle([vector], half) for half in halves)
        vector = combine(low, high)
    return vector


def sums_of_each(b: KernelBuilder, vectors: Sequence[Expr], lanes: int) -> Expr:
    """The sum of each of as many vectors as they have lanes, in their order: two become one, again and again.

    Lane i of what two became holds sums of the first where bit ``step`` of i is 0, of the second where it is 1.
    """
    step = 1
    while step < lanes:
        picks = [[(lane & step and lanes) + (lane ^ turned) for lane in range(lanes)] for turned in (0, step)]
        pairs = zip(vectors[::2], vectors[1::2], strict=True)
        vectors = [b.let(picked(pair, picks[0]) + picked(pair, picks[1])) for pair in pairs]
        step *= 2
    return vectors[0]


def clamped(vector: Expr, low: Expr | None, high: Expr | None) -> Expr:
    """A vector between two others, where they are given."""
    raised = vector if low is None else tirx.max(vector, low)
    return raised if high is None else tirx.min(raised, high)


def picked(vectors: Sequence[Expr], places: Iterable[int]) -> Expr:
    """Lanes of vectors, counted through all of them."""
    return tirx.Shuffle(list(vectors), [tirx.const(place, "int32") for place in places])
