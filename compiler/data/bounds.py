"""How large what is read may be: sizes are checked where they are declared, before anything of that size is made."""

from __future__ import annotations

import math
from typing import Any

from graphpress.errors import DataError
from graphpress.memory import available_memory, in_gigabytes

MOST_EXPANSION = 200
"""Compressed data of more than ``UNSUSPICIOUS_BYTES`` that expands more than this is no data: photographs expand
tenfold, sparse counts fiftyfold."""
UNSUSPICIOUS_BYTES = 1 << 30
NOTICED_BYTES = 1 << 20
"""Below this nobody asks how much memory there is: for each of many images, that takes as long as running the model."""
BYTES_OF_TEXT = 20
"""Memory that a byte of a table or a YAML file takes when it is read into values."""
MOST_VALUES = 100_000
"""Values of a data file. Aliases of aliases are many from few bytes."""


def check_room(wanted: int, where: str) -> None:
    """Whether there is memory for what is about to be read whole.

    Args:
        wanted: bytes that it takes.
        where: the file, and the array in it.

    Raises:
        DataError: there is not.
    """
    available = available_memory() if wanted > NOTICED_BYTES else None
    if available is not None and wanted > available:
        raise DataError(
            f"takes {in_gigabytes(wanted)} of memory, and {in_gigabytes(available)} are available",
            where=where,
            fix="give fewer samples, or an .npy file, which is not read whole",
        )


def check_expansion(stored: int, expanded: int, where: str) -> None:
    """Whether compressed data expands to something that could be data.

    Args:
        stored: bytes in the file.
        expanded: bytes that they are said to become.
        where: the file, and the part of it.

    Raises:
        DataError: it cannot.
    """
    if expanded > max(UNSUSPICIOUS_BYTES, MOST_EXPANSION * stored):
        raise DataError(
            f"expands from {stored:,} bytes to {in_gigabytes(expanded)}, more than {MOST_EXPANSION}-fold",
            where=where,
            fix="store it uncompressed if it is meant to be so large",
        )


def check_values(content: Any, where: str) -> None:
    """Whether the content of a data file is of a size that somebody has written, each alias written out.

    Raises:
        DataError: it is not, or holds itself.
    """
    if _count(content, {}) > MOST_VALUES:
        raise DataError(
            f"holds more than {MOST_VALUES:,} values, with its aliases written out",
            where=where,
            fix="write what is meant without aliases",
        )


def _count(value: Any, known: dict[int, float]) -> float:
    """Values in lists and mappings, at any depth; infinitely many where one holds itself."""
    if not isinstance(value, (list, dict)):
        return 1
    if id(value) not in known:
        known[id(value)] = math.inf
        inner = value if isinstance(value, list) else [*value, *value.values()]
        known[id(value)] = 1 + sum(_count(item, known) for item in inner)
    return known[id(value)]
