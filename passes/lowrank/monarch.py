"""Block-diagonal decomposition (Monarch): blocks of inputs, a permutation, blocks of outputs.

    Ŵ[(j, i), (k, o)] = Σ_r R[k, j, i, r] · B[k, (j, r), o]

Every block [i, o] between a group j of inputs and a group k of outputs has rank r: W = P L Pᵀ R of Dao et al. (arXiv
2204.00595, section 3.1) with blocks of any rank. The start is the singular value decomposition of each block (section
3.2 there), in the norm of what its own inputs are; the alternation takes all of them together. Sizes are split into
factors that are as near to each other as they can be. Of a convolution the blocks are groups: one that slides, a
shuffle of channels, one of a single position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np

from graphpress.passes.lowrank._form import ChainStage, Form, LayerFactors, Ranks, pointwise
from graphpress.passes.lowrank._problem import LayerProblem
from graphpress.passes.lowrank._regrouping import Regrouping, even_factors


class Monarch(Form):
    """Two block-diagonal factors with a permutation between."""

    name: ClassVar[str] = "monarch"
    expression: ClassVar[str] = "gjir,jl->gjilr"
    has_costly_basis: ClassVar[bool] = True
    spans_outputs: ClassVar[bool] = False

    def fits(self, kernel: Sequence[int]) -> bool:
        """Any kernel: only channels are grouped."""
        return True

    def splits(self, problem: LayerProblem) -> bool:
        """A single block, neither side of which is prime."""
        return len(problem.matrix) == 1 and min(_groups(problem)) > 1

    def full_ranks(self, problem: LayerProblem) -> Ranks:
        """The smaller side of a block."""
        inputs, outputs = _groups(problem)
        return (min(problem.matrix.shape[1] // inputs, problem.outputs // outputs),)

    def shapes(self, problem: LayerProblem, ranks: Ranks) -> list[tuple[int, ...]]:
        """R, the groups of inputs, B."""
        (inputs, outputs), (rank,) = _groups(problem), ranks
        features = problem.matrix.shape[1] // inputs
        return [
            (outputs, inputs, features, rank),
            (inputs, inputs),
            (outputs, inputs * rank, problem.outputs // outputs),
        ]

    def unfoldings(self, problem: LayerProblem) -> list[np.ndarray]:
        """All blocks side by side: they share the rank."""
        return [_blocks(problem).matrix]

    def view(self, problem: LayerProblem) -> LayerProblem:
        """Groups of outputs are blocks that read the same."""
        _, outputs = _groups(problem)
        features = problem.matrix.shape[1]
        matrix = problem.matrix.reshape(features, outputs, -1).swapaxes(0, 1)
        covariance = problem.covariance
        if covariance is not None:
            covariance = np.broadcast_to(covariance, (outputs, *covariance.shape[1:]))
        return LayerProblem(matrix, problem.kernel, covariance)

    def start(self, problem: LayerProblem, ranks: Ranks) -> LayerFactors:
        """Each block by itself, in the norm of its own inputs."""
        (rank,), (inputs, outputs) = ranks, _groups(problem)
        blocks = problem.once("monarch", _blocks)
        vectors = blocks.principal_outputs[1][:, :, :rank]
        reduced = (blocks.matrix @ vectors).reshape(outputs, inputs, -1, rank)
        return LayerFactors((reduced, np.eye(inputs)), vectors.swapaxes(1, 2).reshape(outputs, inputs * rank, -1))

    def matrix(self, factors: LayerFactors, problem: LayerProblem) -> np.ndarray:
        """Ŵ, block by block."""
        reduced = factors.parts[0]
        outputs, inputs, _, rank = reduced.shape
        last = factors.last.reshape(outputs, inputs, rank, -1)
        blocks: np.ndarray = (reduced @ last).transpose(1, 2, 0, 3)
        return blocks.reshape(problem.matrix.shape)

    def stages(self, factors: LayerFactors, problem: LayerProblem) -> list[ChainStage]:
        """Groups of inputs, groups of outputs, and what brings one into the order of the other."""
        reduced = factors.parts[0]
        outputs, inputs, features, rank = reduced.shape
        axes = tuple(range(len(problem.kernel)))
        first = reduced.reshape(outputs, inputs, problem.inputs // inputs, *problem.kernel, rank)
        first = np.moveaxis(first, (0, -1), (2, 3))
        first = first.reshape(inputs, problem.inputs // inputs, outputs * rank, *problem.kernel)
        sliding, still = ChainStage(first, axes), ChainStage(pointwise(factors.last, len(axes)))
        if axes:
            return [sliding, replace(still, before=Regrouping((inputs, outputs, rank), (1, 0, 2)))]
        return [
            replace(sliding, before=Regrouping((0, inputs, features), (1, 0, 2))),
            replace(
                still,
                before=Regrouping((0, 0, outputs, rank), (2, 1, 0, 3), (0, 0, inputs * rank)),
                after=Regrouping((), (1, 0, 2), (0, problem.outputs)),
            ),
        ]


def _groups(problem: LayerProblem) -> tuple[int, int]:
    """Of inputs and of outputs."""
    return even_factors(problem.inputs)[0], even_factors(problem.outputs)[0]


def _blocks(problem: LayerProblem) -> LayerProblem:
    """The blocks, ``[outputs · inputs, features, outputs]``, each in the norm of its own inputs."""
    inputs, outputs = _groups(problem)
    features = problem.matrix.shape[1] // inputs
    matrix = problem.matrix.reshape(inputs, features, outputs, -1).transpose(2, 0, 1, 3)
    covariance = problem.covariance
    if covariance is not None:
        split = covariance[0].reshape((inputs, features) * (covariance.ndim - 1))
        own = split if covariance.ndim == 2 else np.einsum("jfjg->jfg", split)
        covariance = np.broadcast_to(own, (outputs, *own.shape)).reshape(-1, *own.shape[1:])
    return LayerProblem(matrix.reshape(inputs * outputs, features, -1), covariance=covariance)
