"""Tensor train: a matrix between folded channels as three cores (Novikov et al., arXiv 1509.06569, equation 4).

    Ŵ[(i₁ i₂ i₃), (o₁ o₂ o₃)] = Σ_{r s} F[i₁, o₁, r] · G[r, i₂, o₂, s] · H[s, i₃, o₃]

Inputs and outputs are folded into three sizes that are as equal as their divisors let them be. The start is TT-SVD
(Oseledets, SIAM J. Sci. Comput. 2011, algorithm 1): two truncated singular value decompositions, exact at full ranks.
It has few parameters rather than few multiply-accumulates: each core runs once for every position of the other axes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np

from graphpress.passes.lowrank._form import ChainStage, Form, LayerFactors, Ranks
from graphpress.passes.lowrank._problem import LayerProblem
from graphpress.passes.lowrank._regrouping import Regrouping

Sizes = tuple[int, int, int]


class TensorTrain(Form):
    """Three cores; for products."""

    name: ClassVar[str] = "tt"
    expression: ClassVar[str] = "gaxr,grbys,gscz->gabcxyz"
    saves_parameters_alone: ClassVar[bool] = True
    fits_last: ClassVar[bool] = False
    spans_outputs: ClassVar[bool] = False

    def fits(self, kernel: Sequence[int]) -> bool:
        """Products alone: no kernel slides."""
        return not kernel

    def splits(self, problem: LayerProblem) -> bool:
        """More than one core has numbers of its own: of two primes, say, a single one would be the whole weight."""
        return sum(math.prod(pair) > 1 for pair in _pairs(problem)) > 1

    def full_ranks(self, problem: LayerProblem) -> Ranks:
        """Those of the two unfoldings between cores."""
        first, second, third = (pair[0] * pair[1] for pair in _pairs(problem))
        return min(first, second * third), min(first * second, third)

    def shapes(self, problem: LayerProblem, ranks: Ranks) -> list[tuple[int, ...]]:
        """F, G, H, and the identity, which has no numbers of its own."""
        blocks, (r, s) = len(problem.matrix), ranks
        (a, x), (b, y), (c, z) = _pairs(problem)
        return [(blocks, a, x, r), (blocks, r, b, y, s), (blocks, s, c, z), (0, 0, 0)]

    def unfoldings(self, problem: LayerProblem) -> list[np.ndarray]:
        """First core against the others, last core against the others."""
        paired = _paired(problem)
        blocks, first, _, third = paired.shape
        return [paired.reshape(blocks, first, -1), paired.reshape(blocks, -1, third)]

    def start(self, problem: LayerProblem, ranks: Ranks) -> LayerFactors:
        """TT-SVD."""
        blocks, (r, s) = len(problem.matrix), ranks
        (a, x), (b, y), (c, z) = _pairs(problem)
        head, rest = _split(_paired(problem).reshape(blocks, a * x, -1), r)
        middle, tail = _split(rest.reshape(blocks, r * b * y, c * z), s)
        cores = head.reshape(blocks, a, x, r), middle.reshape(blocks, r, b, y, s), tail.reshape(blocks, s, c, z)
        return LayerFactors(cores, np.empty((0, 0, 0)))

    def stages(self, factors: LayerFactors, problem: LayerProblem) -> list[ChainStage]:
        """A product a core: of the axes that are left, the next is multiplied, with the rank before it."""
        first, middle, last = factors.parts
        (a, x), (b, y), (c, z) = _pairs(problem)
        blocks, r, s = len(first), first.shape[-1], last.shape[1]
        return [
            _stage(first.reshape(blocks, a, x * r), (a, b * c), (1, 0)),
            _stage(middle.reshape(blocks, r * b, y * s), (b, c, x, r), (1, 2, 3, 0)),
            replace(
                _stage(last.reshape(blocks, s * c, z), (c, x, y, s), (1, 2, 3, 0)),
                after=Regrouping(merged=(-1, problem.outputs)),
            ),
        ]


def _stage(core: np.ndarray, sizes: tuple[int, ...], order: tuple[int, ...]) -> ChainStage:
    """A product with the last of some axes in another order; positions of the others are rows."""
    inputs = core.shape[1]
    fold = Regrouping((-1, *sizes), (0, *(1 + axis for axis in order)), (-1, inputs))
    return ChainStage(core, before=fold, repeats=math.prod(sizes) // inputs)


def _pairs(problem: LayerProblem) -> list[tuple[int, int]]:
    """For each core its size of inputs and of outputs."""
    return list(zip(folded(problem.inputs), folded(problem.outputs), strict=True))


def _paired(problem: LayerProblem) -> np.ndarray:
    """The matrix as ``[blocks, i₁ o₁, i₂ o₂, i₃ o₃]``."""
    pairs = _pairs(problem)
    tensor = problem.matrix.reshape(-1, *(pair[0] for pair in pairs), *(pair[1] for pair in pairs))
    return tensor.transpose(0, 1, 4, 2, 5, 3, 6).reshape(len(tensor), *(math.prod(pair) for pair in pairs))


def _split(matrices: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Matrices as products through so many numbers, the first factor orthogonal."""
    left, values, right = np.linalg.svd(matrices, full_matrices=False)
    return left[:, :, :rank], values[:, :rank, None] * right[:, :rank]


def folded(size: int) -> Sizes:
    """Three sizes whose product this is, increasing, as equal as its divisors let them be."""
    splits = (
        (first, second, size // (first * second))
        for first in range(1, round(size ** (1 / 3)) + 1)
        if size % first == 0
        for second in range(first, math.isqrt(size // first) + 1)
        if (size // first) % second == 0
    )
    return min(splits, key=lambda sizes: (sizes[2] - sizes[0], sizes))
