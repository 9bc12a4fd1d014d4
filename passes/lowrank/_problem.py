"""A layer as what a decomposition approximates: its matrix, and how its inputs vary.

    error(Ŵ) = E‖Wᵀx + b − Ŵᵀx − b̂‖² = tr (W − Ŵ)ᵀ C (W − Ŵ)      with  C = Cov x,   b̂ = b + (W − Ŵ)ᵀ E x

The corrected bias b̂ takes the mean error away, so that the covariance of x and not its Gram matrix weighs what is
left. Without data C is the identity, and the error that of the weights (the Frobenius norm).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar, cast

import numpy as np

from graphpress.analysis.linear import LinearOp

Known = TypeVar("Known")

LEAST_VARIANCE = 1e-4
"""Share of the mean variance that every direction is taken to vary by at least: samples do not show all of them."""


@dataclass(frozen=True)
class LayerProblem:
    """What is decomposed.

    Args:
        matrix: ``[blocks, features, outputs]`` float64; features run over (input, kernel position).
        kernel: sizes of the kernel's axes; empty for products.
        covariance: of the features, ``[blocks, features, features]``, or their variances alone, ``[blocks,
            features]``, where there are too many to see how they vary together; None to weigh all weights alike.
        mean: of the features where the bias makes up for it, ``[blocks, features]``; None where it cannot.
        rows: of data that the covariance was taken of; 0 without data.
        output_root: S^½, symmetric, ``[blocks, outputs, outputs]``, where errors of outputs do not matter alike: the
            error is tr S (W − Ŵ)ᵀ C (W − Ŵ) then.
    """

    matrix: np.ndarray
    kernel: tuple[int, ...] = ()
    covariance: np.ndarray | None = None
    mean: np.ndarray | None = None
    rows: int = 0
    output_root: np.ndarray | None = None
    _known: dict[str, object] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def inputs(self) -> int:
        """Inputs of a block."""
        return int(self.matrix.shape[1]) // math.prod(self.kernel)

    @property
    def outputs(self) -> int:
        """Outputs of a block."""
        return int(self.matrix.shape[2])

    @property
    def tensor(self) -> np.ndarray:
        """The matrix as ``[blocks, inputs, *kernel, outputs]``; nothing is copied."""
        return self.matrix.reshape(len(self.matrix), self.inputs, *self.kernel, self.outputs)

    def weighed(self, matrix: np.ndarray) -> np.ndarray:
        """``C @ matrix``, for matrices ``[blocks, features, columns]``."""
        if self.covariance is None:
            return matrix
        weighed: np.ndarray = (
            self.covariance @ matrix if self.covariance.ndim == 3 else self.covariance[:, :, None] * matrix
        )
        return weighed

    @cached_property
    def principal_outputs(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues of Wᵀ C W that are not zero, decreasing, and their eigenvectors in columns.

        Returns:
            ``[blocks, k]`` and ``[blocks, outputs, k]``, k being the smaller side of the matrix.
        """
        if self.matrix.shape[1] < self.matrix.shape[2]:  # of a head with many classes WᵀCW would be enormous
            singular, right = np.linalg.svd(self._root(), full_matrices=False)[1:]
            return singular**2, right.swapaxes(1, 2)
        spread = self.matrix.swapaxes(1, 2) @ self.weighed(self.matrix)
        values, vectors = np.linalg.eigh(spread)  # of one triangle: no room for its mean with the other
        return np.maximum(values[:, ::-1], 0.0), vectors[:, :, ::-1]

    def _root(self) -> np.ndarray:
        """Lᵀ W, with C = L Lᵀ."""
        if self.covariance is None or self.covariance.ndim == 2:
            return self.matrix if self.covariance is None else np.sqrt(self.covariance)[:, :, None] * self.matrix
        root: np.ndarray = np.linalg.cholesky(self.covariance).swapaxes(1, 2) @ self.matrix
        return root

    @cached_property
    def weighed_matrix(self) -> np.ndarray:
        """``C @ matrix``, for what asks for it again and again."""
        return self.weighed(self.matrix)

    @cached_property
    def with_equal_outputs(self) -> LayerProblem:
        """The same problem over outputs that matter alike: that of W S^½."""
        if self.output_root is None:
            return self
        return LayerProblem(self.matrix @ self.output_root, self.kernel, self.covariance, rows=self.rows)

    @cached_property
    def own_energy(self) -> float:
        """That of the layer as it is, never zero."""
        return max(self.energy(self.matrix), np.finfo(float).tiny)

    def once(self, key: str, make: Callable[[LayerProblem], Known]) -> Known:
        """What a form works out once for all ranks."""
        if key not in self._known:
            self._known[key] = make(self)
        return cast("Known", self._known[key])

    def energy(self, matrix: np.ndarray) -> float:
        """The power of what the layer would compute with this matrix, less its mean: tr S Mᵀ C M."""
        matrix = matrix if self.output_root is None else matrix @ self.output_root
        return max(float(np.einsum("bfo,bfo->", matrix, self.weighed(matrix))), 0.0)

    def shift(self, matrix: np.ndarray) -> np.ndarray | None:
        """What the bias takes on with another matrix, ``[blocks, outputs]``; None where it stays."""
        return None if self.mean is None else np.einsum("bf,bfo->bo", self.mean, self.matrix - matrix)

    def error(self, matrix: np.ndarray) -> float:
        """The error of a matrix in place of this one, relative to the layer's energy."""
        return self.energy(self.matrix - matrix) / self.own_energy


def shape_of_problem(op: LinearOp) -> LayerProblem:
    """A problem of the layer's shape, all zero, that takes no memory: what ranks and costs follow from."""
    return LayerProblem(np.broadcast_to(0.0, op.matrix_shape), op.kernel_shape[3:])


def regularized(covariance: np.ndarray, rows: float = math.inf) -> np.ndarray:
    """A covariance of few samples, shrunk towards the same variance in all directions; of mean variance 1.

    The share of that is the oracle-approximating one (Chen, Wiesel, Eldar and Hero, Shrinkage algorithms for MMSE
    covariance estimation, 2010, equation 23), and ``LEAST_VARIANCE`` at least.

    Args:
        covariance: ``[blocks, features, features]``.
        rows: that it was taken of.
    """
    features = covariance.shape[-1]
    scale = np.einsum("bff->b", covariance) / features
    scale = np.where(scale > 0, scale, 1.0)[:, None, None]
    result: np.ndarray = covariance / scale
    share = np.maximum(_shrinkage(result, rows), LEAST_VARIANCE)[:, None]
    result *= 1 - share[:, :, None]
    np.einsum("bff->bf", result)[:] += share
    return result


def regularized_variances(variances: np.ndarray) -> np.ndarray:
    """Variances ``[blocks, features]`` of mean 1, none below ``LEAST_VARIANCE``."""
    scale = variances.mean(axis=1, keepdims=True)
    result: np.ndarray = variances / np.where(scale > 0, scale, 1.0) + LEAST_VARIANCE
    return result


def _shrinkage(covariance: np.ndarray, rows: float) -> np.ndarray:
    """The share by block, of a covariance whose mean variance is 1."""
    features = covariance.shape[-1]
    squares = np.einsum("bfg,bfg->b", covariance, covariance)
    above = (1 - 2 / features) * squares + features**2
    below = (rows + 1 - 2 / features) * (squares - features)
    share: np.ndarray = above / np.maximum(below, above)
    return share
