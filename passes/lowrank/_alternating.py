"""Alternating least squares in the data's norm, for any form (arXiv 2511.04494, with conjugate gradients inside).

    minimize tr (W − T B)ᵀ C (W − T B)        T linear in each factor aₖ,  B free

B by Cholesky of Tᵀ C T, then each aₖ by a few conjugate-gradient steps on its normal equations

    J* (C · J a · B Bᵀ) = J* (C W Bᵀ)         J a = T with aₖ = a;  J* its adjoint, both an ``einsum``

which never raise the error: they start from the present factor. C is never factored. Few rounds are what keeps terms
from growing against each other (degeneracy); a round that does not lower the error is the last.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from graphpress.observation.least_squares import cholesky_solve
from graphpress.passes.lowrank._form import Form, LayerFactors, Ranks
from graphpress.passes.lowrank._problem import LayerProblem

SWEEPS = 12
"""Rounds over all factors, at most."""
STEPS = 12
"""Conjugate-gradient steps for one factor."""
ENOUGH = 1e-3
"""The alternation ends when a round lowers the error by less than this share of it."""

_DAMPING = 1e-9


def decompose(form: Form, problem: LayerProblem, ranks: Ranks, sweeps: int = SWEEPS) -> LayerFactors:
    """The factors of a layer in the data's norm, at these ranks."""
    factors = form.start(problem, ranks)
    return refine(form, factors, problem, sweeps) if form.alternates else factors


def refine(form: Form, factors: LayerFactors, problem: LayerProblem, sweeps: int = SWEEPS) -> LayerFactors:
    """Better factors of the same ranks, or these."""
    best, error = factors, problem.error(form.matrix(factors, problem))
    for _ in range(sweeps if error > 0 else 0):
        trial = _sweep(form, best, problem)
        reached = problem.error(form.matrix(trial, problem))
        if not reached < error:
            break
        best, gained, error = trial, error - reached, reached
        if gained < ENOUGH * error:
            break
    return best


def _sweep(form: Form, factors: LayerFactors, problem: LayerProblem) -> LayerFactors:
    """Every factor once, the last one first."""
    parts = list(factors.parts)
    last = _fit_last(form.basis(parts, problem), problem, factors.last)
    wanted, weights = problem.matrix @ last.swapaxes(1, 2), last @ last.swapaxes(1, 2)
    target = problem.weighed(wanted)
    for place in range(len(parts)):
        part = _Part(form, parts, place, problem)
        if part.is_free:
            parts[place] = _conjugate_gradients(
                lambda direction, part=part: part.pull(problem.weighed(part.push(direction)) @ weights),  # type: ignore[misc]
                part.pull(target),
                parts[place],
            )
    return LayerFactors(tuple(parts), _fit_last(form.basis(parts, problem), problem, last))


def _fit_last(basis: np.ndarray, problem: LayerProblem, present: np.ndarray) -> np.ndarray:
    """B for this T; the present one where the system is singular."""
    weighed = problem.weighed(basis)
    system = basis.swapaxes(1, 2) @ weighed
    diagonal = np.einsum("bqq->bq", system)
    diagonal += _DAMPING * np.maximum(diagonal.mean(axis=1, keepdims=True), np.finfo(float).tiny)
    solved = cholesky_solve(system, weighed.swapaxes(1, 2) @ problem.matrix)
    return present if solved is None else solved


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
