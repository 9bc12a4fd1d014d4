"""Sparsity: an annotation of a weight that states where its zeros are, beside its encoding.

    unstructured      zeros anywhere
    n:m               of every m consecutive elements along the contracted axis at most n differ from zero

The zeros themselves are in the weight; the annotation (versioned, in ``metadata_props``) states that they are intended,
and which rule they follow. An edit of the weight drops it; the pass annotates anew where the rule still holds.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np

from graphpress.errors import ModelError, UsageError
from graphpress.ir.annotation_text import START_OVER, check_fields, facts_of
from graphpress.ir.meta import forget_text, texts
from graphpress.ir.types import Model, Value
from graphpress.ir.values import constant, graphs, label, values_of

SPARSITY_KEY: Final = "graphpress.sparsity.v1"
UNSTRUCTURED: Final = "unstructured"
_LARGEST = 2**31 - 1
_BLOCK = re.compile(r"([1-9]\d*):([1-9]\d*)")


@dataclass(frozen=True)
class Sparsity:
    """Where the zeros of a weight are.

    Args:
        pattern: ``unstructured``, or ``n:m`` such as ``2:4``.
        axis: the contracted axis, along which ``n:m`` counts.
        zeros: at least this share of the elements is zero.
    """

    pattern: str
    axis: int
    zeros: float

    @property
    def block(self) -> tuple[int, int] | None:
        """N and m, or None where zeros are anywhere."""
        return block_of(self.pattern)


def block_of(pattern: str) -> tuple[int, int] | None:
    """N and m of a pattern, None for ``unstructured``.

    Raises:
        UsageError: it is neither.

    >>> block_of("2:4")
    (2, 4)
    """
    if pattern == UNSTRUCTURED:
        return None
    match = _BLOCK.fullmatch(pattern)
    if match is None or int(match[1]) >= int(match[2]):
        raise UsageError(
            f"unknown pattern {pattern!r}", where="pattern", fix="give 'unstructured', or n:m such as 2:4, n below m"
        )
    return int(match[1]), int(match[2])


def sparsity_of(value: Value) -> Sparsity | None:
    """The annotation of a weight, or None.

    Raises:
        ModelError: the annotation cannot be read.
    """
    text = texts(value).get(SPARSITY_KEY)
    if text is None:
        return None
    try:
        return _parsed(text)
    except (ValueError, UsageError) as error:
        raise ModelError(f"unreadable sparsity {text[:80]!r} ({error})", where=label(value), fix=START_OVER) from error


def _parsed(text: str) -> Sparsity:
    facts = facts_of(text)
    check_fields(facts, "pattern", "axis", "zeros")
    sparsity = Sparsity(**facts)
    if type(sparsity.pattern) is not str or type(sparsity.axis) is not int or type(sparsity.zeros) not in (int, float):
        raise ValueError("pattern, axis or zeros are of another type")
    if not 0 <= sparsity.zeros <= 1 or abs(sparsity.axis) > _LARGEST or (sparsity.block or (0, 0))[1] > _LARGEST:
        raise ValueError("pattern, axis or zeros are out of range")
    return sparsity


def set_sparsity(value: Value, sparsity: Sparsity | None) -> None:
    """Annotate a weight, or clear its annotation."""
    if sparsity is None:
        forget_text(value, SPARSITY_KEY)
    else:
        value.metadata_props[SPARSITY_KEY] = json.dumps(asdict(sparsity), separators=(",", ":"))


def mask_of(value: Value) -> np.ndarray | None:
    """For an annotated weight, true where it differs from zero and may be changed; None for a dense one."""
    array = None if sparsity_of(value) is None else constant(value)
    return None if array is None else array != 0


def fault_of(array: np.ndarray, sparsity: Sparsity) -> str | None:
    """Why the array does not follow the rule; None where it does."""
    zeros = 1.0 - np.count_nonzero(array) / max(array.size, 1)
    if zeros < sparsity.zeros - 1e-9:
        return f"{zeros:.1%} of it is zero, not {sparsity.zeros:.1%}"
    block = sparsity.block
    if block is None:
        return None
    if not -array.ndim <= sparsity.axis < array.ndim:
        return f"it has no axis {sparsity.axis}"
    most = int(used_in_blocks(array, sparsity.axis, block[1]).max(initial=0))
    return None if most <= block[0] else f"{most} of {block[1]} consecutive elements differ from zero"


def used_in_blocks(array: np.ndarray, axis: int, size: int) -> np.ndarray:
    """How many elements of each block of ``size`` along the axis differ from zero; the last block may be shorter."""
    used = np.moveaxis(array != 0, axis, -1)
    starts = np.arange(0, used.shape[-1], size)
    return np.add.reduceat(used.astype(np.int64), starts, axis=-1)


def sparsity_problems(model: Model) -> list[str]:
    """Values that break the rule of their annotation, with the reason; empty when all is well."""
    problems = []
    for value in (value for graph in graphs(model) for value in values_of(graph)):
        sparsity = sparsity_of(value)
        if sparsity is not None:
            array = constant(value)
            fault = "it is not constant" if array is None else fault_of(array, sparsity)
            problems += [] if fault is None else [f"the sparsity of {label(value)} does not hold: {fault}"]
    return problems
