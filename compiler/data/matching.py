"""Which of a source's arrays feeds which input where the data file does not say, and notes on the others."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from graphpress.errors import DataError

LABELS = "labels"
"""The name of the labels' array in a bare source."""


def matched(inputs: Sequence[str], stored: Sequence[str], labels: str | None, where: str) -> dict[str, str]:
    """Arrays named like the inputs; for a single input also the only array there is beside ``labels``.

    Raises:
        DataError: an input has no array.
    """
    if all(name in stored for name in inputs):
        return {name: name for name in inputs}
    others = [name for name in stored if name not in (labels, LABELS)]
    if len(inputs) == 1 and len(others) == 1:
        return {inputs[0]: others[0]}
    lacking = next(name for name in inputs if name not in stored)
    near = nearest(lacking, others)
    raise DataError(
        f"has no array {lacking!r} for the model's input of that name",
        where=where,
        fix=f"its arrays are {', '.join(stored) or 'none'}: rename one, or add "
        f"`inputs: {{{lacking}: {near or 'array'}}}` to a data file",
    )


def matching_notes(chosen: dict[str, str], stored: Sequence[str], labels: str | None, where: str) -> tuple[str, ...]:
    """Notes for the report on arrays that were matched without being named, or not at all.

    Args:
        chosen: array by input, as ``matched`` gives it.
        stored: all arrays.
        labels: the array that labels come from, if it does.
        where: the source.
    """
    renamed = [
        f"{where}: array {array!r} feeds input {name!r}, as the only one there is"
        for name, array in chosen.items()
        if array != name
    ]
    read = {*chosen.values(), *([] if labels is None else [labels])}
    free = [name for name in (*chosen, LABELS) if name not in stored]
    return (*renamed, *(_unused(name, free, sorted(read), where) for name in stored if name not in read))


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that ``name`` may be a typing error for."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)), None)


def _unused(name: str, free: Sequence[str], read: Sequence[str], where: str) -> str:
    near = nearest(name, free)
    if near is not None:
        return f"{where}: array {name!r} is not used; did you mean {near!r}?"
    if name == LABELS:
        return f"{where}: array {name!r} is not used; `labels: {name}` in the data file takes it"
    return f"{where}: array {name!r} is not used; what is read: {', '.join(read)}"
