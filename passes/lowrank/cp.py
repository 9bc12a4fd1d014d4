"""Canonical polyadic decomposition: 1×1, k×1 and 1×k channel by channel, 1×1 (Lebedev et al., arXiv 1412.6553).

    Ŵ[i, h, w, o] = Σ_r I[i, r] · H[h, r] · W[w, r] · B[r, o]

The start takes the largest singular triples of the matrices between inputs and outputs, one for each pair of a column
and a row: principal kernels (the higher-order singular value decomposition of both axes), or single positions where
these gather more of the weight. It is exact at full rank, and the same every time. Sums of large terms that cancel, the
degeneracy of this form (Phan et al., arXiv 2008.05441), have few rounds to grow in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
        """The largest singular triples, of the two expansions of that which has the larger ones."""
        known = max(problem.once(self.name, _expansions), key=lambda terms: terms.largest(ranks[0]))
        take = np.argsort(-known.values, axis=1, kind="stable")[:, None, : ranks[0]]
        parts = (known.inputs, known.columns, known.rows)
        *chosen, last = (np.take_along_axis(part, take, axis=2) for part in (*parts, known.outputs))
        return LayerFactors(tuple(chosen), last.swapaxes(1, 2))

    def stages(self, factors: LayerFactors, problem: LayerProblem) -> list[ChainStage]:
        """1×1, k×1 and 1×k by channel, 1×1."""
        inputs, column, row = factors.parts
        return [
            ChainStage(pointwise(inputs, 2)),
            ChainStage(_by_channel(column)[..., None], (0,)),
            ChainStage(_by_channel(row)[..., None, :], (1,)),
            ChainStage(pointwise(factors.last, 2)),
        ]


@dataclass(frozen=True)
class _Triples:
    """Terms of an exact sum, in columns.

    Args:
        values: how large each is, ``[blocks, terms]``.
        inputs: times its value.
        columns: the part of its kernel along the first axis.
        rows: along the second.
        outputs: of norm one.
    """

    values: np.ndarray
    inputs: np.ndarray
    columns: np.ndarray
    rows: np.ndarray
    outputs: np.ndarray

    def largest(self, count: int) -> float:
        """The energy of the largest terms."""
        return float(np.square(np.sort(self.values, axis=1)[:, -count:]).sum())


def _expansions(problem: LayerProblem) -> tuple[_Triples, _Triples]:
    """By principal kernels, and by kernel positions."""
    blocks, tensor = len(problem.matrix), problem.tensor
    principal = [_principal(np.moveaxis(tensor, axis, 1)) for axis in (2, 3)]
    single = [np.broadcast_to(np.eye(size), (blocks, size, size)) for size in problem.kernel]
    return _triples(problem, *principal), _triples(problem, *single)


def _triples(problem: LayerProblem, columns: np.ndarray, rows: np.ndarray) -> _Triples:
    """For each pair of kernels, orthonormal ones in columns, the singular triples between inputs and outputs."""
    tensor = problem.tensor
    turned = np.einsum("gihwo,gha,gwb->gabio", tensor, columns, rows, optimize=True)
    left, values, right = np.linalg.svd(turned, full_matrices=False)
    blocks, high, wide, terms = values.shape
    inputs = np.moveaxis(left * values[..., None, :], 3, 1).reshape(blocks, problem.inputs, -1)
    outputs = np.moveaxis(right, 4, 1).reshape(blocks, problem.outputs, -1)
    column, row = np.divmod(np.arange(high * wide).repeat(terms), wide)
    return _Triples(values.reshape(blocks, -1), inputs, columns[:, :, column], rows[:, :, row], outputs)


def _principal(unfolded: np.ndarray) -> np.ndarray:
    """Orthonormal kernels along an axis, ``[blocks, size, size]``, those that hold most of the weight first."""
    flat = unfolded.reshape(*unfolded.shape[:2], -1)
    vectors: np.ndarray = np.linalg.eigh(flat @ flat.swapaxes(1, 2))[1][:, :, ::-1]
    return vectors


def _by_channel(factor: np.ndarray) -> np.ndarray:
    """``[blocks, positions, channels]`` as a depthwise kernel ``[blocks · channels, 1, 1, positions]``."""
    blocks, positions, channels = factor.shape
    return factor.swapaxes(1, 2).reshape(blocks * channels, 1, 1, positions)
