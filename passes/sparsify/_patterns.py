"""From scores to masks: which elements of a weight stay, under a pattern. Scores have the weight's own shape.

unstructured     of a set of elements, the share with the lowest scores goes (the set is the layer's, one output's,
or all layers' at once)
n:m              of every m consecutive elements along the contracted axis the n with the highest scores stay
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np

from graphpress.analysis.linear import LinearOp

T = TypeVar("T")


def zeroed(weight: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """The weight with zeros (never negative ones) where it is not kept."""
    return np.where(kept, weight, np.zeros(1, weight.dtype))


def lowest(scores: np.ndarray, share: float) -> np.ndarray:
    """True for that share of the last axis with the lowest scores, to the nearest element; ties go to the first."""
    count = round(share * scores.shape[-1])
    drop = np.zeros(scores.shape, bool)
    if count:
        order = np.argsort(scores, axis=-1, kind="stable")[..., :count]
        np.put_along_axis(drop, order, True, axis=-1)
    return drop


def keep_in_layer(scores: np.ndarray, share: float) -> np.ndarray:
    """True for what stays when this share of the whole array goes."""
    return ~lowest(scores.reshape(-1), share).reshape(scores.shape)


def keep_in_rows(op: LinearOp, scores: np.ndarray, share: float) -> np.ndarray:
    """True for what stays when this share of each output's weights goes."""
    rows = op.as_matrix(scores).transpose(0, 2, 1)
    kept = ~lowest(rows, share)
    return op.from_matrix(kept.transpose(0, 2, 1))


def keep_globally(scores: Mapping[T, np.ndarray], share: float) -> dict[T, np.ndarray]:
    """True for what stays when this share of all arrays together goes."""
    if not scores:
        return {}
    flat = np.concatenate([array.reshape(-1) for array in scores.values()])
    kept = ~lowest(flat, share)
    ends = np.cumsum([array.size for array in scores.values()])
    parts = np.split(kept, ends[:-1])
    return {key: part.reshape(array.shape) for (key, array), part in zip(scores.items(), parts, strict=True)}


def keep_in_blocks(scores: np.ndarray, axis: int, block: tuple[int, int]) -> np.ndarray:
    """True for the n highest of every m consecutive elements along the axis, whose length m divides."""
    most, size = block
    moved = np.moveaxis(scores, axis, -1)
    blocks = moved.reshape(*moved.shape[:-1], -1, size)
    kept = ~lowest(blocks, 1 - most / size)
    return np.moveaxis(kept.reshape(moved.shape), -1, axis)
