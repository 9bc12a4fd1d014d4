"""Which output of a model scores classes, by what speaks for it.

    for       rows that are probabilities; labels that go with it; a name such as ``logits`` or ``cls_score``
    against   a name such as ``bbox`` or ``hidden_state``; nothing for it, and no more columns than a box has

What nobody should score as classes is none: the argmax of box offsets means nothing. An output of three axes holds
classes for each token where something speaks for it; one of integers ``[N]``, the classes themselves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

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
_PLAIN, _WITH_TOKENS = 2, 3
"""Axes of scores of samples, and of tokens in them."""
_FEWER_AXES = 8
"""Scores of samples go before scores of tokens, whatever speaks for these."""


def are_probabilities(scores: np.ndarray) -> bool:
    """Whether no score is negative and every row sums to one."""
    return bool((scores >= 0).all() and (np.abs(scores.sum(axis=-1, dtype=np.float64) - 1) < _SUMS_TO_ONE).all())


def best_class_output(
    arrays: Mapping[str, np.ndarray], rows: int, labels: np.ndarray | None, *, any_width: bool = False
) -> str | None:
    """The output for which most speaks, floats before integers, the first of equals; None where none scores classes.

    Args:
        arrays: the numeric outputs, without trailing extents of 1 where they mean nothing.
        rows: samples in the feed.
        labels: of the samples, or None.
        any_width: count an output for which nothing speaks however few columns it has.
    """
    is_detector = any(_says(name, _BOX) for name in arrays)
    merits = {
        name: 0 if is_detector and array.ndim == _WITH_TOKENS else _merit(name, array, rows, labels, any_width)
        for name, array in arrays.items()
    }
    eligible = [name for name in arrays if merits[name]]
    return max(eligible, key=lambda name: (is_floating(arrays[name].dtype), merits[name]), default=None)


def _says(name: str, meaning: re.Pattern[str]) -> bool:
    """Whether one of the words in a name has this meaning: ``cls_score``, ``clsScore`` and ``cls/score`` have two."""
    return any(meaning.fullmatch(word.lower()) for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name))


def _merit(name: str, array: np.ndarray, rows: int, labels: np.ndarray | None, any_width: bool) -> int:
    """How much speaks for an output to score classes; 0 where it does not."""
    if not array.ndim or array.shape[0] != rows or _says(name, _BOX) or _says(name, _VALUE):
        return 0
    if not is_floating(array.dtype):
        return int(array.ndim == 1 and array.dtype.kind in "iu")
    if array.ndim not in (_PLAIN, _WITH_TOKENS) or array.shape[-1] == 1:
        return 0
    has_labels = labels is not None and labels.ndim == array.ndim - 1
    evidence = 2 * _says(name, _CLASS) + 3 * are_probabilities(array) + 2 * has_labels
    if array.ndim == _WITH_TOKENS:
        return evidence
    return (_FEWER_AXES if evidence else 0) + evidence + int(any_width or array.shape[1] > MOST_NAMELESS_VALUES)
