"""Spatial decomposition: a column of the kernel, then a row (Jaderberg et al., arXiv 1405.3866, section 2, scheme 2).

    Ŵ[i, h, w, o] = Σ_r P[i, h, r] · B[r, w, o]

The start is the truncated singular value decomposition of the weight unfolded to [(i, h), (w, o)].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from graphpress.passes.lowrank._form import ChainStage, Form, LayerFactors, Ranks
from graphpress.passes.lowrank._problem import LayerProblem


class Spatial(Form):
    """Two factors: k×1, then 1×k; for convolutions over two axes."""

    name: ClassVar[str] = "spatial"
    expression: ClassVar[str] = "gihr,wv->gihwrv"

    def fits(self, kernel: Sequence[int]) -> bool:
        """Two axes, of more than one position each."""
        return len(kernel) == 2 and min(kernel) > 1

    def full_ranks(self, problem: LayerProblem) -> Ranks:
        """The smaller side of the unfolded weight."""
        rows, columns = problem.kernel
        return (min(problem.inputs * rows, columns * problem.outputs),)

    def shapes(self, problem: LayerProblem, ranks: Ranks) -> list[tuple[int, ...]]:
        """P, the steps along a row, B."""
        blocks, inputs, rows, columns, outputs = problem.tensor.shape
        return [(blocks, inputs, rows, ranks[0]), (columns, columns), (blocks, ranks[0] * columns, outputs)]

    def unfoldings(self, problem: LayerProblem) -> list[np.ndarray]:
        """[(i, h), (w, o)]."""
        blocks, inputs, rows, columns, outputs = problem.tensor.shape
        return [problem.tensor.reshape(blocks, inputs * rows, columns * outputs)]

    def start(self, problem: LayerProblem, ranks: Ranks) -> LayerFactors:
        """Its truncated singular value decomposition."""
        blocks, inputs, rows, columns, outputs = problem.tensor.shape
        left, right = problem.once(self.name, self._singular)
        rank = ranks[0]
        column = left[:, :, :rank].reshape(blocks, inputs, rows, rank)
        return LayerFactors((column, np.eye(columns)), right[:, :rank].reshape(blocks, rank * columns, outputs))

    def _singular(self, problem: LayerProblem) -> tuple[np.ndarray, np.ndarray]:
        """Left singular vectors times the values, and the right ones."""
        left, values, right = np.linalg.svd(self.unfoldings(problem)[0], full_matrices=False)
        return left * values[:, None], right

    def stages(self, factors: LayerFactors, problem: LayerProblem) -> list[ChainStage]:
        """A column, then a row."""
        column, steps = factors.parts
        blocks, _, _, rank = column.shape
        row = factors.last.reshape(blocks, rank, len(steps), -1)
        return [
            ChainStage(np.moveaxis(column, -1, 2)[..., None], (0,)),
            ChainStage(np.moveaxis(row, -1, 2)[:, :, :, None, :], (1,)),
        ]
