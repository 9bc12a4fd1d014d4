"""Magnitude: the smallest weights go (Han et al., arXiv 1506.02626). Needs no data."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from graphpress.analysis.linear import LinearOp
from graphpress.observation import Moments
from graphpress.passes.sparsify._criterion import SparsityRule
from graphpress.passes.sparsify._patterns import keep_in_blocks, keep_in_layer, zeroed


class Magnitude:
    """|W|, compared within the layer."""

    needs: ClassVar[str] = "nothing"

    def scores(self, op: LinearOp, weight: np.ndarray, seen: Moments | None) -> np.ndarray:
        """The magnitude of each weight."""
        scores: np.ndarray = np.abs(weight)
        return scores

    def sparse(self, op: LinearOp, weight: np.ndarray, seen: Moments | None, rule: SparsityRule) -> np.ndarray:
        """The weight with its smallest elements zero."""
        scores = self.scores(op, weight, seen)
        if rule.block is not None:
            return zeroed(weight, keep_in_blocks(scores, op.in_axis, rule.block))
        return zeroed(weight, keep_in_layer(scores, rule.share))
