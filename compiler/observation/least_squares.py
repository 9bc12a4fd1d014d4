"""Least squares from moments: the matrix and bias that map rows x to targets y with the smallest mean squared error.

    W, b = argmin  E‖y − Wᵀx − b‖² + λ‖W − W₀‖²        (W − W₀) = (C + λI)⁻¹ (C_xy − C W₀),   b = E y − Wᵀ E x

C is the covariance of x (its Gram matrix, where the bias cannot follow), and λ a share of its mean diagonal. The ridge
pulls towards the present weights W₀ and not to zero, so that what the data does not show stays as it is. The system is
solved by Cholesky; where C + λI is not positive definite in double precision, λ grows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphpress.analysis.linear import LinearParameters
from graphpress.observation.gram import Moments

RIDGE_STEPS = (1.0, 10.0, 100.0, 1000.0)
"""The ridge is tried times each of these; the samples held out say which is best."""

_BLOCK = 128
_ROUNDING = 1e-6  # of rows in single precision: present weights that miss less are the solution already
_MAX_ITERATIONS = 200
_TOLERANCE = 1e-8


@dataclass(frozen=True)
class Summary:
    """Means over rows, block by block: what least squares needs of them.

    Args:
        count: number of rows.
        mean: E[x], ``[blocks, features]``.
        covariance: Cov[x], ``[blocks, features, features]``.
        target: E[y], ``[blocks, outputs]``.
        cross: Cov[x, y], ``[blocks, features, outputs]``.
        variance: Var[y], ``[blocks, outputs]``.
    """

    count: int
    mean: np.ndarray
    covariance: np.ndarray
    target: np.ndarray
    cross: np.ndarray
    variance: np.ndarray

    @classmethod
    def of(cls, seen: Moments) -> Summary:
        """From moments of rows and their targets."""
        return cls(
            seen.count, seen.mean, seen.covariance, seen.target_mean, seen.cross_covariance, seen.target_variance
        )

    @property
    def gram(self) -> np.ndarray:
        """E[x xᵀ], ``[blocks, features, features]``."""
        gram: np.ndarray = self.covariance + self.mean[:, :, None] * self.mean[:, None, :]
        return gram

    @property
    def is_finite(self) -> bool:
        """Whether nothing infinite or undefined was among the rows."""
        return all(bool(np.isfinite(array).all()) for array in (self.covariance, self.cross, self.variance))

    def with_rows_of(self, other: Summary) -> Summary:
        """Of the rows of both together."""
        total = self.count + other.count
        ours, others = self.count / total, other.count / total
        apart, target = self.mean - other.mean, self.target - other.target

        def mixed(mine: np.ndarray, theirs: np.ndarray, between: np.ndarray) -> np.ndarray:
            return ours * mine + others * theirs + ours * others * between

        return Summary(
            total,
            mixed(self.mean, other.mean, np.zeros(1)),
            mixed(self.covariance, other.covariance, apart[:, :, None] * apart[:, None, :]),
            mixed(self.target, other.target, np.zeros(1)),
            mixed(self.cross, other.cross, apart[:, :, None] * target[:, None, :]),
            mixed(self.variance, other.variance, target**2),
        )

    def error(self, parameters: LinearParameters) -> np.ndarray:
        """E(y − Wᵀx − b)² by output, ``[blocks, outputs]``."""
        weight = parameters.matrix
        explained = np.einsum("bfo,bfo->bo", weight, self.covariance @ weight)
        explained -= 2 * np.einsum("bfo,bfo->bo", weight, self.cross)
        offset = self.target - np.einsum("bf,bfo->bo", self.mean, weight) - parameters.bias
        error: np.ndarray = np.maximum(self.variance + explained, 0.0) + offset**2
        return error


def fit(
    seen: Summary, present: LinearParameters, ridge: float, *, moves_bias: bool = True, mask: np.ndarray | None = None
) -> LinearParameters | None:
    """The least-squares solution near ``present``, or None where the system is singular in double precision.

    Args:
        seen: moments of rows and targets.
        present: W₀ and the present bias.
        ridge: λ as a share of the mean diagonal of the covariance, block by block.
        moves_bias: the bias follows; else it stays, and the weights alone answer for the mean.
        mask: ``[blocks, features, outputs]``, true where a weight may differ from zero; None for everywhere.
    """
    system, right = seen.covariance, seen.cross
    if not moves_bias:
        system = seen.gram
        right = right + seen.mean[:, :, None] * (seen.target - present.bias)[:, None, :]
    right = right - system @ present.matrix
    if np.linalg.norm(right) <= _ROUNDING * np.linalg.norm(seen.cross):
        matrix = present.matrix
    else:
        damped = _damped(system, ridge)
        step = cholesky_solve(damped, right) if mask is None else masked_solve(damped, right, mask)
        if step is None or not np.isfinite(step).all():
            return None
        matrix = present.matrix + step
    bias = seen.target - np.einsum("bf,bfo->bo", seen.mean, matrix) if moves_bias else present.bias
    return LinearParameters(matrix, bias)


def _damped(system: np.ndarray, ridge: float) -> np.ndarray:
    """A copy with a share of its mean diagonal added to the diagonal."""
    damped, diagonal = system.copy(), np.einsum("bff->bf", system)
    np.einsum("bff->bf", damped)[:] += np.maximum(ridge * diagonal.mean(axis=1, keepdims=True), np.finfo(float).tiny)
    return damped


def cholesky_solve(system: np.ndarray, right: np.ndarray) -> np.ndarray | None:
    """``system⁻¹ @ right`` for stacks of symmetric matrices; None where one is not positive definite."""
    try:
        lower = np.linalg.cholesky(system)
    except np.linalg.LinAlgError:
        return None
    result = right.copy()
    size = system.shape[-1]
    starts = range(0, size, _BLOCK)
    for start in starts:  # L z = right, from the top
        here = slice(start, start + _BLOCK)
        rest = result[..., here, :] - lower[..., here, :start] @ result[..., :start, :]
        result[..., here, :] = np.linalg.solve(lower[..., here, here], rest)
    upper = np.swapaxes(lower, -1, -2)
    for start in reversed(starts):  # Lᵀ x = z, from the bottom
        here, below = slice(start, start + _BLOCK), slice(start + _BLOCK, size)
        rest = result[..., here, :] - upper[..., here, below] @ result[..., below, :]
        result[..., here, :] = np.linalg.solve(upper[..., here, here], rest)
    return result


def masked_solve(system: np.ndarray, right: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Solve for each column on its own support: conjugate gradients on the masked system, all columns at once.

    A column's system is the part of ``system`` that its mask keeps, positive definite as the whole is.
    """
    scale = 1.0 / np.maximum(np.einsum("bff->bf", system), np.finfo(float).tiny)[:, :, None]
    result, residual = np.zeros_like(right), right * mask
    direction = preconditioned = residual * scale
    strength = np.einsum("bfo,bfo->bo", residual, preconditioned)
    goal = strength * _TOLERANCE**2
    for _ in range(_MAX_ITERATIONS):
        if np.all(strength <= goal):
            break
        pushed = (system @ direction) * mask
        curvature = np.einsum("bfo,bfo->bo", direction, pushed)
        length = np.divide(strength, curvature, out=np.zeros_like(strength), where=curvature > 0)
        result = result + length[:, None, :] * direction
        residual = residual - length[:, None, :] * pushed
        preconditioned = residual * scale
        before, strength = strength, np.einsum("bfo,bfo->bo", residual, preconditioned)
        turn = np.divide(strength, before, out=np.zeros_like(strength), where=before > 0)
        direction = preconditioned + turn[:, None, :] * direction
    return result
