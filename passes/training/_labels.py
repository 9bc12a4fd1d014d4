"""Labels: which output they go with, and whether they fit it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from graphpress.data.inputs import matches
from graphpress.errors import DataError, UsageError
from graphpress.ir import Model, dims_of
from graphpress.passes.training._outputs import Reading

if TYPE_CHECKING:
    from graphpress.training.losses import Term


def label_reading(readings: Sequence[Reading], labels: np.ndarray, model: Model) -> Reading:
    """The output that labels are for: the first of class scores, else the only one, or the only one that they fit.

    Labels show more than shapes do: values with one integer label a position are class scores, as those of a
    segmentation without its Softmax; what only looks like class scores are values where a label is as many numbers.

    Raises:
        UsageError: several outputs are possible, or none.
    """
    candidates = [reading for reading in readings if reading.kind == "classes"] or list(readings)
    if len(candidates) == 1 or (candidates and candidates[0].kind == "classes"):
        return _corrected(candidates[0], labels, model)
    fitting = [fit for reading in readings if (fit := _fitted(reading, labels, model)) is not None]
    if len(fitting) == 1:
        return fitting[0]
    raise UsageError(
        f"the model has {len(readings)} outputs, of which labels of shape {list(labels.shape)} fit {len(fitting)}",
        where="labels",
        fix="leave labels to the teacher (distill), or train with a loop of your own: train{loop=module:function}",
    )


def check_labels(labels: np.ndarray, reading: Reading, model: Model) -> None:
    """Check that labels fit the output.

    Raises:
        DataError: they do not.
    """
    dims = _dims(reading, model)
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
    if reading.kind == "decisions" and labels.size and not 0 <= labels.min() <= labels.max() <= 1:
        raise DataError(
            f"run from {labels.min()} to {labels.max()}, but the output {reading.output!r} tells probabilities",
            where="labels",
            fix="give numbers from 0 to 1",
        )


def label_term(reading: Reading, weight: float, target: str) -> Term:
    """What is lost where an output differs from the labels."""
    from graphpress.training.losses import Term, label_loss, label_probabilities_loss, label_square

    if reading.kind == "classes":
        return Term(weight, reading.value, target, partial(label_loss, axis=reading.axis))
    loss = label_probabilities_loss if reading.kind == "decisions" else label_square
    return Term(weight, reading.value, target, loss)


def _dims(reading: Reading, model: Model) -> tuple[int | None, ...] | None:
    return dims_of(next(value for value in model.graph.outputs if value.name == reading.output))


def _corrected(reading: Reading, labels: np.ndarray, model: Model) -> Reading:
    """The reading of an output, corrected by what its labels show."""
    dims = _dims(reading, model)
    if dims is None or reading.value != reading.output:  # a Softmax or Sigmoid leaves no doubt
        return reading
    if reading.kind == "classes":
        as_many = labels.dtype.kind == "f" and _same(labels.shape[1:], dims[1:])
        return replace(reading, kind="values") if as_many else reading
    axis = _class_axis(labels, dims) if labels.ndim > 1 else None
    return reading if axis is None else replace(reading, kind="classes", axis=axis)


def _fitted(reading: Reading, labels: np.ndarray, model: Model) -> Reading | None:
    """The reading of one output of several, if labels fit it."""
    dims = _dims(reading, model)
    axis = None if dims is None or reading.kind != "values" else _class_axis(labels, dims)
    if axis is not None:
        return replace(reading, kind="classes", axis=axis)
    return reading if dims is not None and _same(labels.shape[1:], dims[1:]) else None


def _class_axis(labels: np.ndarray, dims: tuple[int | None, ...]) -> int | None:
    """The axis of an output without which it is as its labels, class indices; None where there is none."""
    if labels.dtype.kind not in "iu" or len(dims) != labels.ndim + 1:
        return None
    rest = {1: dims[2:], -1: dims[1:-1]}
    return next((axis for axis, left in rest.items() if dims[axis] != 1 and matches(labels.shape[1:], left)), None)


def _same(shape: Sequence[int], dims: Sequence[int | None]) -> bool:
    """Whether labels of this shape fit, extents of 1 apart."""
    shape, dims = [size for size in shape if size != 1], [dim for dim in dims if dim != 1]
    return len(shape) == len(dims) and all(dim in (None, size) for size, dim in zip(shape, dims, strict=True))
