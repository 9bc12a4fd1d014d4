"""Canonical polyadic decomposition: 1×1, k×1 and 1×k channel by channel, 1×1 (Lebedev et al., arXiv 1412.6553).

    Ŵ[i, h, w, o] = Σ_r I[i, r] · H[h, r] · W[w, r] · B[r, o]

The start takes the singular triples of the matrices between inputs and outputs at each kernel position, the largest of
all first: exact at full rank, the same every time. Sums of large terms that cancel, the degeneracy of this form (Phan
et al., arXiv 2008.05441), have few rounds to grow in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from graphpress.passes.lowrank._form import ChainStage, Form, LayerFactors, Ranks, pointwise
from graphpress.passes.lowrank._problem import LayerProblem


class Cp(Form):
    """Four factors; for convolutions over two axes."""

    name: ClassVar[str] = "cp"
    expression: ClassVar[str] = "gir,ghr,gwr->gihwr"

    def fits(self, kernel: Sequence[int]) -> bool:
        """Two axes, of more than one position each."""
        return len(kernel) == 2 and min(kernel) > 1

    def full_ranks(self, problem: LayerProblem) -> Ranks:
        """All singular triples at all kernel positions."""
        return (int(np.prod(problem.kernel)) * min(problem.inputs, problem.outputs),)

    def shapes(self, problem: LayerProblem, ranks: Ranks) -> list[tuple[int, ...]]:
        """I, H, W, B."""
        blocks, rank, (rows, columns) = len(problem.matrix), ranks[0], problem.kernel
        sides = [(blocks, size, rank) for size in (problem.inputs, rows, columns)]
        return [*sides, (blocks, rank, problem.outputs)]

    def unfoldings(self, problem: LayerProblem) -> list[np.ndarray]:
        """The matrix, as that of a singular value decomposition: this form's rank belongs to no unfolding."""
        return [problem.matrix]

    def start(self, problem: LayerProblem, ranks: Ranks) -> LayerFactors:
        """The largest singular triples."""
        rows, columns = problem.kernel
        positions = np.moveaxis(problem.tensor, 1, 3).reshape(-1, rows * columns, problem.inputs, problem.outputs)
        left, values, right = np.linalg.svd(positions, full_matrices=False)
        blocks, _, terms = values.shape
        order = np.argsort(-values.reshape(blocks, -1), axis=1, kind="stable")[:, : ranks[0]]
        position, term = order // terms, order % terms
        block = np.arange(blocks)[:, None]
        inputs = left[block, position, :, term] * values[block, position, term][..., None]
        return LayerFactors(
            (
                inputs.swapaxes(1, 2),
                np.eye(rows)[position // columns].swapaxes(1, 2),
                np.eye(columns)[position % columns].swapaxes(1, 2),
            ),
            right[block, position, term],
        )

    def stages(self, factors: LayerFactors, problem: LayerProblem) -> list[ChainStage]:
        """1×1, k×1 and 1×k by channel, 1×1."""
        inputs, column, row = factors.parts
        return [
            ChainStage(pointwise(inputs, 2)),
            ChainStage(_by_channel(column)[..., None], (0,)),
            ChainStage(_by_channel(row)[..., None, :], (1,)),
            ChainStage(pointwise(factors.last, 2)),
        ]


def _by_channel(factor: np.ndarray) -> np.ndarray:
    """``[blocks, positions, channels]`` as a depthwise kernel ``[blocks · channels, 1, 1, positions]``."""
    blocks, positions, channels = factor.shape
    return factor.swapaxes(1, 2).reshape(blocks * channels, 1, 1, positions)
