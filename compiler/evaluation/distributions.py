"""What the outputs of a model mean: a distribution over classes, or plain numbers.

The output that scores classes is the one that accuracy would be measured on. Whether it holds probabilities is read off
its numbers, so that no form of Softmax has to be known.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from graphpress.data.inputs import is_floating
from graphpress.evaluation.outputs import Predictions, class_output

_SUMS_TO_ONE = 1e-3


def class_scores(outputs: Mapping[str, np.ndarray], rows: int) -> str | None:
    """The name of the output that holds floating-point scores of classes, ``rows`` × classes; None without one."""
    name = class_output(Predictions(outputs, None, None, rows, rows), None)
    return name if name is not None and is_floating(outputs[name].dtype) else None


def log_probabilities(scores: np.ndarray) -> np.ndarray:
    """``(rows, classes)`` float64 from logits, or from probabilities, which are recognized by their sums."""
    wide = scores.reshape(len(scores), -1).astype(np.float64)
    if are_probabilities(wide):
        return np.log(np.maximum(wide, np.finfo(np.float32).tiny))
    with np.errstate(invalid="ignore"):  # infinite scores give NaN, which the caller looks for
        shifted = wide - wide.max(axis=1, keepdims=True)
        return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def are_probabilities(scores: np.ndarray) -> bool:
    """Whether no score is negative and every row sums to one."""
    return bool((scores >= 0).all() and (np.abs(scores.sum(axis=1, dtype=np.float64) - 1) < _SUMS_TO_ONE).all())
