"""Which output of a model scores classes, by what speaks for it.

    for       rows that are probabilities, or their logarithms; labels that go with it; a name such as ``logits`` or
              ``cls_score``; of more columns than a box has, rows in each of which one value stands out
    against   a name such as ``bbox`` or ``hidden_state``; nothing for it

What nobody should score as classes is none: the argmax of box offsets, or of a forecast, means nothing. An output of
three axes holds classes for each token where something speaks for it; one of integers ``[N]``, the classes themselves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from statistics import NormalDist

import numpy as np

from graphpress.data.inputs import is_floating

_CLASS = re.compile(
    r"class(es|ifier)?|cls|prob(s|abilit(y|ies))?|softmax|sigmoid|scores?|conf(idence)?|logits?|labels?|categor(y|ies)"
)
_BOX = re.compile(r"(b?box|offset|landmark|keypoint)(es|s)?|locs?|kps")
_VALUE = re.compile(
    r"location|deltas?|reg(ression)?|coords?|coordinates|embed(s|dings?)?|features?|hidden|states?|pooler|masks?|depth|"
    r"pose|angles?|flow|distances?|anchors?"
)
MOST_NAMELESS_VALUES = 4
"""Columns of an output for which nothing speaks: a box has so many, and a net with so few classes is rarer."""
_SUMS_TO_ONE = 1e-3
_LEAST_CONFIDENCE = 0.4
"""Probability, by Softmax, of the best class that a classifier usually has for what it was made for."""
_LEAST_LEAD = 1.15
"""How far the largest value is above its row, over that of as many numbers drawn from a normal distribution."""
_PLAIN, _WITH_TOKENS = 2, 3
"""Axes of scores of samples, and of tokens in them."""
_FEWER_AXES = 8
"""Scores of samples go before scores of tokens, whatever speaks for these."""


def are_probabilities(scores: np.ndarray) -> bool:
    """Whether no score is negative and every row sums to one."""
    return bool((scores >= 0).all() and (np.abs(scores.sum(axis=-1, dtype=np.float64) - 1) < _SUMS_TO_ONE).all())


def are_logarithms(scores: np.ndarray) -> bool:
    """Whether they are the logarithms of probabilities."""
    return bool((scores <= 0).all() and are_probabilities(np.exp(scores, dtype=np.float64)))


def are_many(scores: np.ndarray) -> bool:
    """Whether there are more columns than a box has."""
    return bool(scores.shape[1] > MOST_NAMELESS_VALUES)


def stand_out(scores: np.ndarray) -> bool:
    """Whether in most rows of ``[rows, columns]`` one of many values stands out, to Softmax and above its row, and not
    always the same column's: so do the logits of a classifier, and hardly ever other numbers.
    """
    wide, columns = scores.astype(np.float64), scores.shape[1]
    is_fixed = len(wide) > 1 and np.ptp(wide.argmax(1)) == 0
    if is_fixed or not are_many(scores) or not np.isfinite(wide).all():
        return False
    best = wide.max(1)
    confidence = 1 / np.exp(wide - best[:, None]).sum(1)
    lead = (best - wide.mean(1)) / np.maximum(wide.std(1), np.finfo(np.float64).tiny)
    usual = NormalDist().inv_cdf((columns - 0.375) / (columns + 0.25))  # the largest order statistic (Blom 1958)
    return bool(np.median(confidence) >= _LEAST_CONFIDENCE and np.median(lead) >= _LEAST_LEAD * usual)


def best_class_output(
    arrays: Mapping[str, np.ndarray],
    rows: int,
    labels: np.ndarray | None,
    may_score: Callable[[np.ndarray], bool] = are_many,
) -> str | None:
    """The output for which most speaks, floats before integers, the first of equals; None where none scores classes.

    Args:
        arrays: the numeric outputs, without trailing extents of 1 where they mean nothing.
        rows: samples in the feed.
        labels: of the samples, or None.
        may_score: whether an output ``[rows, columns]`` counts for which nothing else speaks.
    """
    is_detector = any(_says(name, _BOX) for name in arrays)
    merits = {
        name: 0 if is_detector and array.ndim == _WITH_TOKENS else _merit(name, array, rows, labels, may_score)
        for name, array in arrays.items()
    }
    eligible = [name for name in arrays if merits[name]]
    return max(eligible, key=lambda name: (is_floating(arrays[name].dtype), merits[name]), default=None)


def _says(name: str, meaning: re.Pattern[str]) -> bool:
    """Whether one of the words in a name has this meaning: ``cls_score``, ``clsScore`` and ``cls/score`` have two."""
    return any(meaning.fullmatch(word.lower()) for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name))


def _merit(
    name: str, array: np.ndarray, rows: int, labels: np.ndarray | None, may_score: Callable[[np.ndarray], bool]
) -> int:
    """How much speaks for an output to score classes; 0 where it does not."""
    if not array.ndim or array.shape[0] != rows or _says(name, _BOX) or _says(name, _VALUE):
        return 0
    if not is_floating(array.dtype):
        return int(array.ndim == 1 and array.dtype.kind in "iu")
    if array.ndim not in (_PLAIN, _WITH_TOKENS) or array.shape[-1] == 1:
        return 0
    has_labels = labels is not None and labels.ndim == array.ndim - 1
    are_likely = are_probabilities(array) or are_logarithms(array)
    evidence = 2 * _says(name, _CLASS) + 3 * are_likely + 2 * has_labels
    if array.ndim == _WITH_TOKENS:
        return evidence
    return (_FEWER_AXES if evidence else 0) + evidence + int(may_score(array))
