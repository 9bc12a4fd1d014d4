"""Tucker-2: fewer inputs, the kernel between few channels, all outputs (Kim et al., arXiv 1511.06530, section 3.1).

    Ŵ[i, k, o] = Σ_rs A[i, r] · K[r, k, s] · B[s, o]

The start is the higher-order singular value decomposition of the two channel axes (De Lathauwer et al. 2000): outputs
in the data's norm first, then the inputs of what is left.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from graphpress.passes.lowrank._form import ChainStage, Form, LayerFactors, Ranks, pointwise
from graphpress.passes.lowrank._problem import LayerProblem


class Tucker(Form):
    """Three factors: 1×1, k×k, 1×1."""

    name: ClassVar[str] = "tucker"
    expression: ClassVar[str] = "gir,grks->giks"

    def full_ranks(self, problem: LayerProblem) -> Ranks:
        """Of the inputs, and of the outputs."""
        positions = math.prod(problem.kernel)
        inputs, outputs = problem.inputs, problem.outputs
        return min(inputs, positions * outputs), min(outputs, inputs * positions)

    def shapes(self, problem: LayerProblem, ranks: Ranks) -> list[tuple[int, ...]]:
        """A, K, B."""
        blocks, (few, many) = len(problem.matrix), ranks
        positions = math.prod(problem.kernel)
        return [(blocks, problem.inputs, few), (blocks, few, positions, many), (blocks, many, problem.outputs)]

    def unfoldings(self, problem: LayerProblem) -> list[np.ndarray]:
        """[i, (k, o)] and [(i, k), o]."""
        return [problem.matrix.reshape(len(problem.matrix), problem.inputs, -1), problem.matrix]

    def start(self, problem: LayerProblem, ranks: Ranks) -> LayerFactors:
        """The leading vectors of both channel axes, and the weight between them."""
        blocks = len(problem.matrix)
        few, many = ranks
        last = problem.principal_outputs[1][:, :, :many]
        core = (problem.matrix @ last).reshape(blocks, problem.inputs, -1, many)
        unfolded = core.reshape(blocks, problem.inputs, -1)
        reduced = np.linalg.eigh(unfolded @ unfolded.swapaxes(1, 2))[1][:, :, ::-1][:, :, :few]
        kernel = np.einsum("gir,giks->grks", reduced, core)
        return LayerFactors((reduced, kernel), last.swapaxes(1, 2))

    def stages(self, factors: LayerFactors, problem: LayerProblem) -> list[ChainStage]:
        """1×1, k×k, 1×1."""
        reduced, core = factors.parts
        blocks, few, _, many = core.shape
        axes = tuple(range(len(problem.kernel)))
        sliding = np.moveaxis(core.reshape(blocks, few, *problem.kernel, many), -1, 2)
        return [
            ChainStage(pointwise(reduced, len(axes))),
            ChainStage(sliding, axes),
            ChainStage(pointwise(factors.last, len(axes))),
        ]
