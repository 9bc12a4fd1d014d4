"""Alternating least squares in the data's norm, for any form (arXiv 2511.04494, with conjugate gradients inside).

    minimize tr (W − T B)ᵀ C (W − T B)        T linear in each factor aₖ,  B free

B by Cholesky of Tᵀ C T, then each aₖ by a few conjugate-gradient steps on its normal equations

    J* (C · J a · B Bᵀ) = J* (C W Bᵀ)         J a = T with aₖ = a;  J* its adjoint, both an ``einsum``

which never raise the error: they start from the present factor. C is never factored. After a round, further on in its
direction is tried, where the error is often lower still (Harshman 1970; long valleys are what slows the alternation
down). A limited number of rounds is what keeps terms from growing against each other (degeneracy); one that does not
lower the error is the last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from graphpress.observation.least_squares import cholesky_solve
from graphpress.passes.lowrank._form import Form, LayerFactors, Ranks
from graphpress.passes.lowrank._problem import LayerProblem

STEPS = 4
"""Conjugate-gradient steps for one factor; more of them gain less than another round."""
LEAP = 2.0
"""How much further than a round went is tried."""

_DAMPING = 1e-9


@dataclass(frozen=True)
class Patience:
    """When the alternation ends.

    Args:
        sweeps: rounds over all factors, at most.
        enough: a round that lowers the error by less than this share of it is the last.
        macs: multiply-accumulates, at most: of a layer with thousands of features a round takes seconds.
    """

    sweeps: int
    enough: float
    macs: float = math.inf

    def rounds(self, form: Form, factors: LayerFactors, problem: LayerProblem) -> int:
        """How many rounds there may be."""
        blocks, features, _ = problem.matrix.shape
        inner = factors.last.shape[1] if form.fits_last else problem.outputs
        has_full_covariance = problem.covariance is not None and problem.covariance.ndim == 3
        product = blocks * features * inner * (inner + features * has_full_covariance)
        return int(min(self.sweeps, self.macs / (product * (2 + len(factors.parts) * (STEPS + 1)))))


FULL = Patience(24, 1e-3, 2e12)
"""For factors that are written."""
JUDGING = Patience(4, 0.03, 4e10)
"""For a choice that is only judged: where not even one round is within these, by its start with the best B."""


def decompose(form: Form, problem: LayerProblem, ranks: Ranks, patience: Patience = FULL) -> LayerFactors:
    """The factors of a layer in the data's norm, at these ranks.

    The alternation begins in the norm of the weights, where a round is cheap and gains more. Where outputs do not
    matter alike, Ŵ is that of W S^½ times S^-½, which its last factor takes on; forms without one take outputs for
    alike.
    """
    if problem.output_root is not None:
        if not form.spans_outputs:
            return decompose(form, replace(problem, output_root=None), ranks, patience)
        factors = decompose(form, problem.with_equal_outputs, ranks, patience)
        return replace(factors, last=factors.last @ np.linalg.inv(problem.output_root))
    factors = form.start(problem, ranks)
    if form.alternates:
        if problem.covariance is not None:
            factors = refine(form, factors, LayerProblem(problem.matrix, problem.kernel), patience)
        factors = refine(form, factors, problem, patience)
    return balanced(form, factors, problem) if form.fits_last else factors


def balanced(form: Form, factors: LayerFactors, problem: LayerProblem) -> LayerFactors:
    """The same product with what goes through it, x T, about as large as what the layer reads.

    Else one factor carries all of the scale: what it computes overflows in half precision, and training hardly moves
    it. Columns of T have norm one in the mean, as features vary by one in the mean.
    """
    parts, (blocks, inner, _) = list(factors.parts), factors.last.shape
    place = max(place for place in range(len(parts)) if _Part(form, [], place, problem).is_free)
    basis = parts[place] if form.has_costly_basis else form.basis(parts, form.view(problem))
    power = np.square(basis).reshape(blocks, -1).sum(axis=1) / inner
    size = np.sqrt(np.where(power > 0, power, 1.0))
    parts[place] = parts[place] / size.reshape(-1, *(1,) * (parts[place].ndim - 1))
    return LayerFactors(tuple(parts), factors.last * size[:, None, None])


def refine(form: Form, factors: LayerFactors, problem: LayerProblem, patience: Patience = FULL) -> LayerFactors:
    """Better factors of the same ranks, or these."""
    problem = form.view(problem)
    if form.has_costly_basis and not patience.rounds(form, factors, problem):
        return factors
    best, error = _with_last(form, factors.parts, problem, factors.last)
    for _ in range(patience.rounds(form, best, problem) if error > 0 else 0):
        trial, reached = _leap(form, best.parts, *_sweep(form, best, problem), problem)
        if not reached < error:
            break
        best, gained, error = trial, error - reached, reached
        if gained < patience.enough * error:
            break
    return best


def _sweep(form: Form, factors: LayerFactors, problem: LayerProblem) -> tuple[LayerFactors, float]:
    """Every factor once, and the error that is left; B is the best one for the others."""
    parts, last = list(factors.parts), factors.last
    back = last.swapaxes(1, 2)
    target = problem.weighed_matrix @ back if form.fits_last else problem.weighed_matrix

    def squared(columns: np.ndarray) -> np.ndarray:
        return columns @ (last @ back) if form.fits_last else columns

    for place in range(len(parts)):
        part = _Part(form, parts, place, problem)
        if part.is_free:
            parts[place] = _conjugate_gradients(
                lambda direction, part=part: part.pull(squared(problem.weighed(part.push(direction)))),  # type: ignore[misc]
                part.pull(target),
                parts[place],
            )
    return _with_last(form, parts, problem, last)


def _leap(
    form: Form, before: Sequence[np.ndarray], factors: LayerFactors, error: float, problem: LayerProblem
) -> tuple[LayerFactors, float]:
    """Further in the direction in which a sweep went, where that is better still."""
    parts = [part + LEAP * (part - old) for part, old in zip(factors.parts, before, strict=True)]
    further, reached = _with_last(form, parts, problem, factors.last)
    return (further, reached) if reached < error else (factors, error)


def _with_last(
    form: Form, parts: Sequence[np.ndarray], problem: LayerProblem, present: np.ndarray
) -> tuple[LayerFactors, float]:
    """B for these parts, the present one where the system is singular; and the relative error with it.

    tr (W − T B)ᵀ C (W − T B) = tr Wᵀ C W − 2 tr Bᵀ Tᵀ C W + tr Bᵀ Tᵀ C T B
    """
    basis = form.basis(parts, problem)
    if not form.fits_last:
        return LayerFactors(tuple(parts), present), problem.error(basis)
    system, right = basis.swapaxes(1, 2) @ problem.weighed(basis), basis.swapaxes(1, 2) @ problem.weighed_matrix
    diagonal = np.einsum("bqq->bq", system)
    diagonal += _DAMPING * np.maximum(diagonal.mean(axis=1, keepdims=True), np.finfo(float).tiny)
    solved = cholesky_solve(system, right)
    last = present if solved is None else solved
    explained = float(np.vdot(last, 2 * right - system @ last))
    return LayerFactors(tuple(parts), last), max(1 - explained / problem.own_energy, 0.0)


@dataclass(frozen=True)
class _Part:
    """One factor of T as the only one that varies."""

    form: Form
    parts: list[np.ndarray]
    place: int
    problem: LayerProblem

    @property
    def _subscripts(self) -> tuple[list[str], str]:
        operands, result = self.form.expression.split("->")
        return operands.split(","), result

    @property
    def is_free(self) -> bool:
        """Whether it is a factor at all: a constant of the form has no blocks."""
        return "g" in self._subscripts[0][self.place]

    def push(self, factor: np.ndarray) -> np.ndarray:
        """T with this factor."""
        parts = [*self.parts]
        parts[self.place] = factor
        return self.form.basis(parts, self.problem)

    def pull(self, gradient: np.ndarray) -> np.ndarray:
        """The adjoint of ``push``."""
        operands, result = self._subscripts
        others = [index for index in range(len(operands)) if index != self.place]
        expression = ",".join([result, *(operands[index] for index in others)]) + "->" + operands[self.place]
        sizes = {
            axis: size
            for subscripts, part in zip(operands, self.parts, strict=True)
            for axis, size in zip(subscripts, part.shape, strict=True)
        }
        shaped = gradient.reshape([sizes[axis] for axis in result])
        pulled: np.ndarray = np.einsum(expression, shaped, *(self.parts[index] for index in others), optimize=True)
        return pulled


def _conjugate_gradients(
    system: Callable[[np.ndarray], np.ndarray], right: np.ndarray, start: np.ndarray
) -> np.ndarray:
    """A few steps towards ``system(x) = right`` from where x is."""
    result, residual = start, right - system(start)
    direction, strength = residual, float(np.vdot(residual, residual))
    goal = strength * 1e-12
    for _ in range(STEPS):
        pushed = system(direction)
        curvature = float(np.vdot(direction, pushed))
        if curvature <= 0 or strength <= goal:
            break
        length = strength / curvature
        result = result + length * direction
        residual = residual - length * pushed
        before, strength = strength, float(np.vdot(residual, residual))
        direction = residual + strength / before * direction
    return result
