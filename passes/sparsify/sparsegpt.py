"""SparseGPT: what goes is compensated for by what stays (Frantar & Alistarh, arXiv 2301.00774, algorithm 1).

    H = X Xᵀ + λI,   H⁻¹ = Uᵀ U                          Gram matrix of the layer's input, upper Cholesky factor
    for each feature j, from the first to the last:
        δ_j = (w_j where it goes, else 0) / U_jj          weights with the lowest w² / U_jj² go
        W_:,l ← W_:,l − δ_j U_jl     for l ≥ j            optimal brain surgeon's update of what comes after

Masks are chosen for a run of features at a time, when their turn comes: the share of the run with the lowest w² / U_jj²
goes, or of every m consecutive channels at one kernel position all but n. Groups of a convolution are problems of their
own. λ is a hundredth of the mean diagonal of H, and grows where H is not positive definite.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from graphpress.analysis.linear import LinearOp
from graphpress.observation import Moments
from graphpress.observation.least_squares import cholesky_solve
from graphpress.passes.sparsify._criterion import SparsityRule
from graphpress.passes.sparsify._patterns import lowest

DAMPING = 0.01
RUN = 128
"""Features whose masks are chosen together, and after which the weights behind are brought up to date."""

_MAX_TRIES = 8


class SparseGpt:
    """Optimal brain surgeon, feature by feature."""

    needs: ClassVar[str] = "gram"

    def sparse(self, op: LinearOp, weight: np.ndarray, seen: Moments | None, rule: SparsityRule) -> np.ndarray:
        """The weight with zeros, and with what is left of it changed to make up for them."""
        assert seen is not None
        view = op.as_matrix(weight.astype(np.float64)).copy()
        positions = math.prod(weight.shape[2:]) if op.is_convolution else 1
        turn = np.arange(view.shape[1]).reshape(-1, positions).T.reshape(-1)  # channels of one position side by side
        for matrix, gram in zip(view, seen.gram, strict=True):
            matrix[turn] = _pruned(matrix[turn].T.copy(), gram[np.ix_(turn, turn)], rule).T
        return op.from_matrix(view).astype(weight.dtype)


def _pruned(weight: np.ndarray, gram: np.ndarray, rule: SparsityRule) -> np.ndarray:
    """The rows of ``[outputs, features]`` after algorithm 1."""
    features = len(gram)
    dead = np.diag(gram) == 0
    weight[:, dead] = 0.0
    upper = _factor(gram + np.diag(dead.astype(float)))
    run = RUN if rule.block is None else max(1, RUN // rule.block[1]) * rule.block[1]
    for start in range(0, features, run):
        stop = min(start + run, features)
        inner = upper[start:stop, start:stop]
        part = weight[:, start:stop]
        gone = None if rule.block is not None else _lowest_of_run(part, inner, rule.share)
        errors = np.zeros_like(part)
        for column in range(stop - start):
            if rule.block is not None and column % rule.block[1] == 0:
                gone = _lowest_of_block(part, inner, column, rule.block, gone)
            assert gone is not None
            errors[:, column] = np.where(gone[:, column], part[:, column], 0.0) / inner[column, column]
            part[:, column:] -= errors[:, column, None] * inner[column, column:]
            part[gone[:, column], column] = 0.0
        weight[:, stop:] -= errors @ upper[start:stop, stop:]
    return weight


def _lowest_of_run(part: np.ndarray, inner: np.ndarray, share: float) -> np.ndarray:
    scores = np.square(part / np.diag(inner))
    return lowest(scores.reshape(-1), share).reshape(part.shape)


def _lowest_of_block(
    part: np.ndarray, inner: np.ndarray, column: int, block: tuple[int, int], gone: np.ndarray | None
) -> np.ndarray:
    """The mask with the next m features chosen, by the weights as they are by now."""
    gone = np.zeros(part.shape, bool) if gone is None else gone
    here = slice(column, column + block[1])
    scores = np.square(part[:, here] / np.diag(inner)[here])
    gone[:, here] = lowest(scores, 1 - block[0] / block[1])
    return gone


def _factor(gram: np.ndarray) -> np.ndarray:
    """U with (gram + λI)⁻¹ = Uᵀ U, upper triangular."""
    mean, damping = float(np.diag(gram).mean()), DAMPING
    for _ in range(_MAX_TRIES):
        inverse = cholesky_solve(gram + damping * mean * np.eye(len(gram)), np.eye(len(gram)))
        if inverse is not None:
            try:
                upper: np.ndarray = np.linalg.cholesky((inverse + inverse.T) / 2).T
            except np.linalg.LinAlgError:
                pass
            else:
                return upper
        damping *= 10
    return np.eye(len(gram))
