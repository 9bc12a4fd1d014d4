"""Singular value decomposition in the data's norm: the layer that computes r numbers, and one that spreads them.

    Ŵ = W V Vᵀ        V the r eigenvectors of Wᵀ C W with the largest eigenvalues

Whitened by C = L Lᵀ, the weight is Lᵀ W = U S Vᵀ, and what truncation leaves of it L⁻ᵀ U_r S_r V_rᵀ = W V_r V_rᵀ: the
optimum of SVD-LLM (Wang et al., arXiv 2403.07378, section 3), here without a factor of C or an inverse. The error is
the sum of the eigenvalues that are left out. It is also the reduced-rank regression of the layer's results on its
inputs (Izenman 1975). Convolutions are unfolded to [inputs · kernel, outputs] (Zhang et al., arXiv 1505.06798, section
3.1): the first layer slides, the second has one position.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from graphpress.passes.lowrank._form import ChainStage, Form, LayerFactors, Ranks, pointwise
from graphpress.passes.lowrank._problem import LayerProblem


class Svd(Form):
    """Two factors: features → r → outputs."""

    name: ClassVar[str] = "svd"
    expression: ClassVar[str] = "gfr->gfr"
    alternates: ClassVar[bool] = False

    def fits(self, kernel: Sequence[int]) -> bool:
        """It is for all of them."""
        return True

    def full_ranks(self, problem: LayerProblem) -> Ranks:
        """The smaller side."""
        return (min(problem.matrix.shape[1:]),)

    def shapes(self, problem: LayerProblem, ranks: Ranks) -> list[tuple[int, ...]]:
        """T, B."""
        blocks, features, outputs = problem.matrix.shape
        return [(blocks, features, ranks[0]), (blocks, ranks[0], outputs)]

    def known_error(self, problem: LayerProblem, ranks: Ranks) -> float:
        """The sum of the eigenvalues that are left out."""
        values = problem.principal_outputs[0]
        return float(values[:, ranks[0] :].sum() / max(float(values.sum()), np.finfo(float).tiny))

    def unfoldings(self, problem: LayerProblem) -> list[np.ndarray]:
        """The matrix itself."""
        return [problem.matrix]

    def start(self, problem: LayerProblem, ranks: Ranks) -> LayerFactors:
        """The optimum: nothing is left to alternate."""
        vectors = problem.principal_outputs[1][:, :, : ranks[0]]
        return LayerFactors((problem.matrix @ vectors,), vectors.swapaxes(1, 2))

    def stages(self, factors: LayerFactors, problem: LayerProblem) -> list[ChainStage]:
        """One that slides, one of a single position."""
        (first,) = factors.parts
        blocks, _, rank = first.shape
        axes = tuple(range(len(problem.kernel)))
        sliding = np.moveaxis(first.reshape(blocks, problem.inputs, *problem.kernel, rank), -1, 2)
        return [ChainStage(sliding, axes), ChainStage(pointwise(factors.last, len(axes)))]
