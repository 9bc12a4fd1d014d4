"""Labels: which output they go with, and whether they fit it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from graphpress.errors import DataError, UsageError
from graphpress.ir import Model, dims_of
from graphpress.passes.training._outputs import Reading

if TYPE_CHECKING:
    from graphpress.bridge.pytorch.losses import Term


def label_reading(readings: Sequence[Reading]) -> Reading:
    """The output that labels are for: the first that tells classes, else the only one.

    Raises:
        UsageError: it cannot be told.
    """
    found = [reading for reading in readings if reading.kind == "classes"] or list(readings)
    if len(found) == 1 or (found and found[0].kind == "classes"):
        return found[0]
    raise UsageError(
        f"the model has {len(readings)} outputs that labels could be for",
        where="labels",
        fix="train with distill, or with a loop of your own: train{loop=module:function}",
    )


def check_labels(labels: np.ndarray, reading: Reading, model: Model) -> None:
    """Check that labels fit the output.

    Raises:
        DataError: they do not.
    """
    output = next(value for value in model.graph.outputs if value.name == reading.output)
    dims = dims_of(output)
    if reading.kind == "classes":
        classes = None if dims is None else dims[reading.axis]
        if labels.dtype.kind not in "iu":
            raise DataError(
                f"are {labels.dtype}, but the output {reading.output!r} tells classes",
                where="labels",
                fix="give class indices, as integers",
            )
        if classes is not None and labels.ndim == 1 and labels.size and not 0 <= labels.min() <= labels.max() < classes:
            raise DataError(
                f"run from {labels.min()} to {labels.max()}, but the output has {classes} classes",
                where="labels",
                fix="check that labels and model number the classes alike",
            )
    elif dims is not None and not _same(labels.shape[1:], dims[1:]):
        raise DataError(
            f"of shape {list(labels.shape)} do not go with the output {reading.output!r}",
            where="labels",
            fix="give an array of the output's shape",
        )
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise DataError("hold infinite or undefined numbers", where="labels", fix="check the data")


def label_term(reading: Reading, weight: float, target: str) -> Term:
    """What is lost where an output differs from the labels."""
    from graphpress.bridge.pytorch.losses import Term, label_loss, label_probabilities_loss, label_square

    if reading.kind == "classes":
        return Term(weight, reading.value, target, partial(label_loss, axis=reading.axis))
    loss = label_probabilities_loss if reading.kind == "decisions" else label_square
    return Term(weight, reading.value, target, loss)


def _same(shape: Sequence[int], dims: Sequence[int | None]) -> bool:
    return len(shape) == len(dims) and all(dim in (None, size) for size, dim in zip(shape, dims, strict=True))
