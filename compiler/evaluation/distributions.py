"""What the outputs of a model mean: a distribution over classes, or plain numbers.

The output that scores classes is the one that accuracy would be measured on. Whether it holds probabilities is read off
its numbers, so that no form of Softmax has to be known.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from graphpress.data.inputs import is_floating
from graphpress.evaluation.outputs import class_axis, numeric, trimmed
from graphpress.evaluation.roles import are_probabilities, best_class_output


def class_scores(outputs: Mapping[str, np.ndarray], rows: int) -> str | None:
    """The name of the output that holds floating-point scores of classes, ``rows`` × classes; None without one.

    For losses and damage, which mean something of numbers too, one for which nothing speaks counts whatever its width.
    """
    arrays = numeric(outputs)
    shapes = {name: trimmed(array) if len(arrays) == 1 else array for name, array in arrays.items()}
    plain = {name: array for name, array in shapes.items() if is_floating(array.dtype) and array.ndim == 2}
    return best_class_output(plain, rows, None, lambda _: True)


def log_probabilities(scores: np.ndarray) -> np.ndarray:
    """``(rows, classes)`` float64 from logits, or from probabilities, which are recognized by their sums."""
    wide = scores.reshape(len(scores), -1).astype(np.float64)
    if are_probabilities(wide):
        return np.log(np.maximum(wide, np.finfo(np.float32).tiny))
    with np.errstate(invalid="ignore"):  # infinite scores give NaN, which the caller looks for
        shifted = wide - wide.max(axis=1, keepdims=True)
        return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def class_log_probabilities(scores: np.ndarray) -> np.ndarray:
    """The same of scores with classes along ``class_axis``, which comes last then: ``[rows, ..., classes]``."""
    last = np.moveaxis(scores, class_axis(scores), -1)
    return log_probabilities(last.reshape(-1, last.shape[-1])).reshape(last.shape)
