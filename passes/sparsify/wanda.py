"""WandaSparsity: the score of a weight is its magnitude times the norm of the feature that it reads.

    S_ij = |W_ij| · ‖X_j‖₂        compared within each output i        (Sun et al., arXiv 2306.11695, equation 1)

The squared norm is a diagonal element of the Gram matrix of the layer's input; a convolution's features are (channel,
kernel position).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from graphpress.analysis.linear import LinearOp
from graphpress.observation import Moments
from graphpress.passes.sparsify._criterion import SparsityRule
from graphpress.passes.sparsify._patterns import keep_in_blocks, keep_in_rows, zeroed


class WandaSparsity:
    """Magnitude times input norm, compared within each output."""

    needs: ClassVar[str] = "diagonal"

    def scores(self, op: LinearOp, weight: np.ndarray, seen: Moments | None) -> np.ndarray:
        """The score of each weight."""
        assert seen is not None
        norms = np.sqrt(seen.squares)[:, :, None]
        return op.from_matrix(np.abs(op.as_matrix(weight)) * norms)

    def sparse(self, op: LinearOp, weight: np.ndarray, seen: Moments | None, rule: SparsityRule) -> np.ndarray:
        """The weight with the elements of the lowest scores zero."""
        scores = self.scores(op, weight, seen)
        if rule.block is not None:
            return zeroed(weight, keep_in_blocks(scores, op.in_axis, rule.block))
        return zeroed(weight, keep_in_rows(op, scores, rule.share))
