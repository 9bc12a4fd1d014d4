"""What every decomposition is: a form that a layer's weight takes, as a chain of thinner layers.

The weight of a form is a product of two matrices, block by block,

    Ŵ = T(a₁, …, aₙ) · B        T ``[features, q]`` linear in each aₖ by itself,   B ``[q, outputs]``

so that one alternating least squares (``_alternating``) serves all forms; where no factor spans all outputs, T is the
whole and B the identity. A form says how T is made of its factors, as an ``einsum``, where it starts, and which layers
its factors become.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphpress.passes.lowrank._problem import LayerProblem
from graphpress.passes.lowrank._regrouping import NOTHING, Regrouping

_FILL = 0.01  # neither zero nor denormal, which kernels may treat in another time

Ranks = tuple[int, ...]
"""The inner sizes of a form, one for each cut."""


@dataclass(frozen=True)
class ChainStage:
    """One layer of a chain.

    Args:
        kernel: ``[blocks, inputs, outputs, *kernel]``, as that of ``LinearOp.as_kernel``; a kernel axis that the stage
            does not slide along has one position.
        axes: the spatial axes that it slides along: it takes stride, padding and dilation of these.
        before: what regroups the features that it reads.
        after: what regroups those that it makes, of the last stage of a product.
        repeats: how often it is multiplied for a row of the layer's data.
    """

    kernel: np.ndarray
    axes: tuple[int, ...] = ()
    before: Regrouping = NOTHING
    after: Regrouping = NOTHING
    repeats: int = 1

    @property
    def parameters(self) -> int:
        """Elements of its weight."""
        return int(self.kernel.size)


@dataclass(frozen=True)
class LayerFactors:
    """A decomposed weight.

    Args:
        parts: the factors of T.
        last: B, ``[blocks, q, outputs]``.
    """

    parts: tuple[np.ndarray, ...]
    last: np.ndarray


class Form(ABC):
    """A way to write a weight as factors; without state.

    Class attributes:
        name: what recipes call it.
        expression: how the parts make T: subscripts of an ``einsum``, ``g`` for blocks.
        alternates: whether the start is not the optimum yet.
        saves_parameters_alone: whether it may multiply more often than the whole weight; ``auto`` does not take it.
        fits_last: whether B is a factor; else it is the identity, and T the whole weight.
        spans_outputs: whether B stays of the form times any matrix of the outputs.
        has_costly_basis: whether T is so much larger than its factors that it is made only where a round follows.
    """

    name: ClassVar[str]
    expression: ClassVar[str]
    alternates: ClassVar[bool] = True
    saves_parameters_alone: ClassVar[bool] = False
    fits_last: ClassVar[bool] = True
    spans_outputs: ClassVar[bool] = True
    has_costly_basis: ClassVar[bool] = False

    def fits(self, kernel: Sequence[int]) -> bool:
        """Whether it is another form than a singular value decomposition for a kernel of these sizes."""
        return any(size > 1 for size in kernel)

    def splits(self, problem: LayerProblem) -> bool:
        """Whether sizes of this problem's matrix can be split as the form needs it."""
        return True

    def view(self, problem: LayerProblem) -> LayerProblem:
        """The problem as one of T · B, where parts of its outputs count as blocks."""
        return problem

    @abstractmethod
    def full_ranks(self, problem: LayerProblem) -> Ranks:
        """Ranks at which it is exact."""

    @abstractmethod
    def shapes(self, problem: LayerProblem, ranks: Ranks) -> list[tuple[int, ...]]:
        """Of the factors at these ranks, the last one last."""

    def known_error(self, problem: LayerProblem, ranks: Ranks) -> float | None:
        """The relative error at these ranks where it is known without factors, else None."""
        return None

    @abstractmethod
    def unfoldings(self, problem: LayerProblem) -> list[np.ndarray]:
        """For each rank the matrices of the weight that have it at full rank, ``[blocks, rows, columns]``."""

    @abstractmethod
    def start(self, problem: LayerProblem, ranks: Ranks) -> LayerFactors:
        """Factors to begin with: good in the norm of the weights, and exact at full ranks."""

    @abstractmethod
    def stages(self, factors: LayerFactors, problem: LayerProblem) -> list[ChainStage]:
        """The layers that the factors become, in the order in which they run."""

    def outline(self, problem: LayerProblem, ranks: Ranks) -> list[ChainStage]:
        """The stages at these ranks with one small number everywhere: what they cost, before they are known."""
        *parts, last = (np.full(shape, _FILL, np.float32) for shape in self.shapes(problem, ranks))
        return self.stages(LayerFactors(tuple(parts), last), problem)

    def basis(self, parts: Sequence[np.ndarray], problem: LayerProblem) -> np.ndarray:
        """T, ``[blocks, features, q]``."""
        whole = np.einsum(self.expression, *parts, optimize=True)
        blocks, features, _ = problem.matrix.shape
        basis: np.ndarray = whole.reshape(blocks, features, -1)
        return basis

    def matrix(self, factors: LayerFactors, problem: LayerProblem) -> np.ndarray:
        """Ŵ, ``[blocks, features, outputs]``."""
        basis = self.basis(factors.parts, problem)
        product: np.ndarray = basis @ factors.last if self.fits_last else basis
        return product


def pointwise(matrix: np.ndarray, rank: int) -> np.ndarray:
    """A matrix ``[blocks, inputs, outputs]`` as the kernel of one position along ``rank`` axes."""
    return matrix.reshape(*matrix.shape, *(1,) * rank)
