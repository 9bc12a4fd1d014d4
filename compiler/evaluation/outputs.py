"""What the outputs of a model mean: predicted classes, and how near two models' outputs are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from graphpress.data.inputs import Feed, is_floating
from graphpress.errors import DataError, UsageError, did_you_mean
from graphpress.evaluation.roles import are_many, best_class_output

Outputs = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Predictions:
    """One batch to be scored.

    Args:
        outputs: of the model under test; arrays along the batch axis may be padded beyond ``count``.
        labels: ``[count, ...]``, or None.
        reference: the original model's outputs on the same feed, or None.
        rows: samples in the feed, padding included.
        count: real samples.
        feed: what the model was fed; None where nobody asks.
    """

    outputs: Outputs
    labels: np.ndarray | None
    reference: Outputs | None
    rows: int
    count: int
    feed: Feed | None = None

    def cut(self, array: np.ndarray) -> np.ndarray:
        """The array without padding; one that has no batch axis as it is."""
        return array[: self.count] if self._is_batched(array) else array

    def real(self, array: np.ndarray) -> np.ndarray:
        """The array without padding; one that has no batch axis counts as a single row."""
        return array[: self.count] if self._is_batched(array) else array[None]

    def _is_batched(self, array: np.ndarray) -> bool:
        return isinstance(array, np.ndarray) and array.ndim > 0 and array.shape[0] == self.rows

    def pairs(self, output: str | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(reference, candidate) of each numeric output, or of the named one, as float64 ``[count or 1, values]``.

        Outputs whose shapes differ, as those of data-dependent size may, have nothing in common: the candidate then
        reads as not-a-number.
        """
        reference = numeric(self.reference or {})
        for name in [pick(reference, output)] if output else compared(reference):
            wanted = self.real(reference[name])
            given = self.real(self.outputs[name])
            wide = wanted.reshape(wanted.shape[0], -1).astype(np.float64)
            same = wanted.shape == given.shape
            yield wide, given.reshape(wide.shape).astype(np.float64) if same else np.full_like(wide, np.nan)


def numeric(outputs: Outputs) -> dict[str, np.ndarray]:
    """The outputs that are arrays of numbers; sequences, maps and text are none."""
    return {
        name: array
        for name, array in outputs.items()
        if isinstance(array, np.ndarray) and (array.dtype.kind in "biu" or is_floating(array.dtype))
    }


def compared(outputs: Outputs) -> list[str]:
    """The outputs by which two models are compared: those of floating point, else all that hold numbers."""
    arrays = numeric(outputs)
    return [name for name, array in arrays.items() if is_floating(array.dtype)] or list(arrays)


def pick(outputs: Outputs, name: str) -> str:
    """The name, if the model has such an output.

    Raises:
        UsageError: it has not.
    """
    if name not in outputs:
        raise UsageError(f"the model has no output {name!r}", where="--metric", fix=did_you_mean(name, outputs))
    return name


def class_output(
    predictions: Predictions, output: str | None, may_score: Callable[[np.ndarray], bool] = are_many
) -> str | None:
    """The output that scores or predicts classes: the named one, else that for which most speaks (``roles``), or one
    that may score them, as far as its numbers tell.

    Extents of 1 behind these don't count in an only output, as global pooling leaves them. Among several outputs they
    do: there ``[N, anchors, 1]`` is a detector's scores of one class.
    """
    arrays = numeric(predictions.outputs)
    if output is not None:
        return pick(arrays, output)
    shapes = {name: trimmed(array) if len(arrays) == 1 else array for name, array in arrays.items()}
    return best_class_output(shapes, predictions.rows, predictions.labels, may_score)


def predicted(array: np.ndarray, predictions: Predictions) -> np.ndarray:
    """Predicted classes: the argmax over the class axis, or the integers themselves; -1 where scores hold NaN.

    The class axis is the second, in outputs of rank 3 the last.
    """
    scores = trimmed(predictions.real(array))
    if not is_floating(scores.dtype):
        return scores.astype(np.int64)
    axis = class_axis(scores)
    return np.where(np.isnan(scores).any(axis), -1, scores.argmax(axis))


def in_top(array: np.ndarray, k: int, predictions: Predictions) -> np.ndarray:
    """Whether each label is among the ``k`` best classes, as 0/1 ``[count]``; the share of places for dense labels.

    Equal scores rank by index, as argmax has it. Dense labels outside the classes are void and don't count.

    Raises:
        DataError: labels do not go with this output.
    """
    labels = predictions.labels
    if labels is None:
        raise DataError("the metric needs labels", fix="add `labels:` to the data, or take the metric `agreement`")
    scores = trimmed(predictions.real(array))
    if not is_floating(scores.dtype):
        _check_labels(labels, scores.shape, None)
        return _share(scores == labels, np.ones(labels.shape, bool))
    axis = class_axis(scores)
    scores = np.moveaxis(scores, axis, -1)
    _check_labels(labels, scores.shape[:-1], scores.shape[-1])
    valid = (labels >= 0) & (labels < scores.shape[-1])
    index = np.where(valid, labels, 0)[..., None]
    own = np.take_along_axis(scores, index, -1)
    better = (scores > own) | ((scores == own) & (np.arange(scores.shape[-1]) < index))
    hit = (better.sum(-1) < k) & ~np.isnan(scores).any(-1)
    return _share(hit & valid, valid)


def next_tokens(predictions: Predictions, shape: tuple[int, ...]) -> np.ndarray:
    """The token that follows each but the last, from the integer input of this shape ``(count, length)``.

    Raises:
        DataError: no input holds the tokens that the output scores.
    """
    for array in (predictions.feed or {}).values():
        tokens = predictions.cut(array)
        if tokens.dtype.kind in "iu" and tokens.shape == shape:
            return np.asarray(tokens[:, 1:])
    raise DataError(
        "there are no labels, and no input holds tokens, one for each position of the output",
        where="perplexity",
        fix="add `labels:` to the data: one a sample, or one a token",
    )


def class_count(array: np.ndarray, predictions: Predictions) -> int | None:
    """How many classes an output scores; None where it holds the predicted classes themselves."""
    scores = trimmed(predictions.real(array))
    return scores.shape[class_axis(scores)] if is_floating(scores.dtype) and scores.ndim > 1 else None


def class_axis(scores: np.ndarray) -> int:
    """The axis that classes lie along: the second; the last in rank 3, where sequences have it."""
    return 2 if scores.ndim == 3 else min(1, scores.ndim - 1)


def trimmed(array: np.ndarray) -> np.ndarray:
    """Without trailing extents of 1, as global pooling leaves them."""
    while array.ndim > 1 and array.shape[-1] == 1:
        array = array[..., 0]
    return array


def check_whole(labels: np.ndarray) -> None:
    """Whether labels can count classes.

    Raises:
        DataError: they are fractions, as the targets of a regression are.
    """
    if labels.dtype.kind not in "iu":
        raise DataError(
            f"are {labels.dtype}, and not all of them whole numbers: the metric counts classes by them",
            where="labels",
            fix="give class indices; for targets of a regression give a metric of your own as module:function, "
            "or leave labels out: results are compared with the original's",
        )


def _check_labels(labels: np.ndarray, shape: tuple[int, ...], classes: int | None) -> None:
    if classes is not None:
        check_whole(labels)
    if labels.shape != shape:
        one_hot = classes is not None and labels.shape == (*shape, classes)
        raise DataError(
            f"of shape {list(labels.shape)}, which do not go with predictions of shape {list(shape)}",
            where="labels",
            fix="they look one-hot: give class indices, labels.argmax(-1)"
            if one_hot
            else "choose another output with `top1@output`, or give a metric of your own as module:function",
        )
    if classes is not None and labels.ndim == 1 and labels.size and not 0 <= labels.min() <= labels.max() < classes:
        raise DataError(
            f"run from {labels.min()} to {labels.max()}, but the output has {classes} classes",
            where="labels",
            fix="check that labels and model number the classes alike",
        )


def _share(hit: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """The share of hits among valid places, sample by sample."""
    hits, places = (mask.reshape(mask.shape[0], -1).sum(1) for mask in (hit, valid))
    return np.where(places > 0, hits / np.maximum(places, 1), 1.0)
