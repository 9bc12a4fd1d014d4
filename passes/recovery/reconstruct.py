"""Least-squares reconstruction: give every layer the weights that best make up for what was taken from its input.

    W = argmin  E‖Y − X̂ W‖² + λ‖W − W₀‖²

X̂ is what the changed model, with the layers before already reconstructed, feeds the layer; Y is what the start model
computes there, restricted to the channels that are left; W₀ is the present weight (He et al., arXiv 1707.06168,
section 3.1, the least-squares step, and 3.2, the asymmetric form; the ridge towards W₀ is ours). In front of a residual
addition the start model's sum less the other branch is aimed at (section 3.3). The bias takes part, and convolutions of
several groups are solved group by group. Zeros of a sparse weight stay; an encoded weight is encoded anew, and judged
as it is rounded.

A quarter of the samples is held out: they choose λ, and a layer whose error on them gets no better stays as it was.
Refuses a layer whose weight is shared or that the start model does not have.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphpress.analysis.linear import LinearOp, LinearParameters, LinearUpdate, parameters_of, updated
from graphpress.analysis.linear.bias import takes_shift
from graphpress.analysis.linear.rows import result_rows, rows_of, samples_of
from graphpress.errors import UsageError
from graphpress.ir import Editor, Model, Refusal
from graphpress.ir.sparsity import mask_of
from graphpress.manager.contract import Context, Outcome, Pass
from graphpress.observation.gram import POSITIONS, Moments, has_gram, pieces_of
from graphpress.observation.least_squares import RIDGE_STEPS, Summary, fit
from graphpress.passes.recovery._repair import (
    RepairPlan,
    Shown,
    nothing_before,
    plan_repair,
    repair,
)

HELD_OUT = 4
"""One sample in so many is held out."""

_NOTHING_TO_GAIN = 1e-5
"""A relative error below this is rounding."""

TOO_WIDE = "a Gram matrix of its {} inputs takes too much memory"


@dataclass(frozen=True)
class Reconstruct(Pass):
    """Repair weights by least squares towards the model before pruning, quantizing or sparsifying; no training.

    Args:
        samples: calibration samples that are looked at, at most.
        positions: positions of a convolution's result that are looked at in each sample.
        ridge: pull towards the present weights, as a share of the mean square of the layer's input.
        residual: in front of a residual addition, aim at the sum, so that earlier errors are corrected too.
    """

    name: ClassVar[str] = "reconstruct"
    lossless: ClassVar[bool] = False
    recovers: ClassVar[bool] = True
    needs_data: ClassVar[bool] = True

    samples: int = 1000
    positions: int = POSITIONS
    ridge: float = 1e-3
    residual: bool = True

    def __post_init__(self) -> None:
        for field, least in (("samples", 1), ("positions", 1), ("ridge", 0)):
            if not getattr(self, field) >= least:  # undefined numbers, too
                raise UsageError(
                    f"{field} must be at least {least}, not {getattr(self, field)}",
                    where=self.name,
                    fix="leave it out for the default",
                )

    def refuse(self, model: Model, context: Context) -> Refusal | None:
        """Needs data, and a model to repair towards."""
        return super().refuse(model, context) or nothing_before(self.name, context)

    def run(self, model: Model, context: Context) -> Outcome:
        """Layer by layer: sum moments, solve, write."""
        plan = plan_repair(model, context, residual=self.residual)
        if not plan.waves:
            return Outcome(0, plan.refusals, ["no layer differs from the start of the transaction"])
        edit, report = Editor(model), _Report(plan)

        def finish(problem: _Problem) -> None:
            better = problem.solve(self.ridge)
            report.take(problem, better)
            if better is not None:
                better.write(edit, context.target.quantization.bias)

        repair(model, context, plan, self.samples, lambda op: _Problem(op, self.positions, finish))
        return report.outcome()


class _Problem:
    """The least-squares problem of one layer."""

    def __init__(self, op: LinearOp, positions: int, write: Callable[[_Problem], None]) -> None:
        self.op, self.before, self.after = op, 0.0, 0.0
        self.failure = None if has_gram(op) else TOO_WIDE.format(op.matrix_shape[1])
        self._present, self._positions, self._write = parameters_of(op), positions, write
        self._seen, self._held = Moments(), Moments()
        self._samples = 0

    def add(self, shown: Shown) -> None:
        """Take in one piece: most samples to solve with, the others to measure by."""
        if self.failure is None:
            for data, target, sampling in pieces_of(self.op, shown.data, shown.target, self._positions, self._samples):
                assert target is not None
                x, y = rows_of(self.op, data, sampling), result_rows(self.op, target, sampling)
                if x.shape[:2] != y.shape[:2] or y.shape[2] != self.op.matrix_shape[2]:
                    self.failure = f"its result is of another shape than the start model's {list(target.shape)}"
                    return
                self._add_rows(x, y, sampling.start + np.arange(samples_of(self.op, data)))
        self._samples += samples_of(self.op, shown.data)

    def _add_rows(self, x: np.ndarray, y: np.ndarray, samples: np.ndarray) -> None:
        """Rows and targets of the samples of these numbers, equally many of each."""
        held = np.repeat(samples % HELD_OUT == HELD_OUT - 1, x.shape[1] // len(samples))
        for moments, rows in ((self._seen, ~held), (self._held, held)):
            if rows.any():
                moments.add(x[:, rows], y[:, rows])

    def finish(self) -> None:
        """Hand the problem over."""
        self._write(self)

    @property
    def measured_on(self) -> str:
        """The samples on which errors are measured, as text for the report."""
        return "samples held out" if self._held.count else "the samples themselves, too few to hold any out"

    def solve(self, ridge: float) -> LinearUpdate | None:
        """The layer with better weights, or None where there are none (``failure`` holds the reason)."""
        if self.failure is None and not (self._seen.is_finite and (not self._held.count or self._held.is_finite)):
            self.failure = "it reads or should compute infinite or undefined values"
        if self.failure is not None or not self._seen.count:
            return None
        seen = Summary.of(self._seen)
        held_out = Summary.of(self._held) if self._held.count else seen
        scale = max(float(held_out.variance.sum() + np.square(held_out.target).sum()), np.finfo(float).tiny)
        self.before = self.after = float(held_out.error(self._present).sum()) / scale
        if self.before <= _NOTHING_TO_GAIN:
            return None
        errors = {step: self._error(seen, held_out, ridge * step) / scale for step in RIDGE_STEPS}
        best = min(errors, key=lambda step: errors[step])
        if not errors[best] < self.before:
            return None
        self.after = errors[best]
        whole = seen.with_rows_of(held_out) if held_out is not seen else seen
        return self._fitted(whole, ridge * best)

    def _error(self, seen: Summary, held_out: Summary, ridge: float) -> float:
        update = self._fitted(seen, ridge)
        if update is None:
            return np.inf
        bias = self._present.bias if update.bias is None else update.bias
        return float(held_out.error(LinearParameters(update.matrix, bias)).sum())

    def _fitted(self, seen: Summary, ridge: float) -> LinearUpdate | None:
        moves_bias, mask = takes_shift(self.op), mask_of(self.op.weight)
        free = None if mask is None else self.op.as_matrix(mask)
        solution = fit(seen, self._present, ridge, moves_bias=moves_bias, mask=free)
        return None if solution is None else updated(self.op, solution, with_bias=moves_bias)


class _Report:
    """What was done, for the outcome."""

    def __init__(self, plan: RepairPlan) -> None:
        self._refusals = list(plan.refusals)
        self._before: list[float] = []
        self._after: list[float] = []
        self._measured_on: dict[str, None] = {}
        self._changes = 0

    def take(self, problem: _Problem, better: LinearUpdate | None) -> None:
        """Count one layer."""
        if problem.failure is not None:
            self._refusals.append(Refusal.at(problem.op.node, problem.failure))
            return
        if better is None and problem.before > _NOTHING_TO_GAIN:
            self._refusals.append(
                Refusal.at(problem.op.node, f"least squares does not lower its error on {problem.measured_on}")
            )
        self._changes += better is not None
        self._measured_on[problem.measured_on] = None
        self._before.append(problem.before)
        self._after.append(problem.after)

    def outcome(self) -> Outcome:
        """With the mean relative error before and after."""
        if not self._before:
            return Outcome(0, self._refusals)
        before, after = float(np.mean(self._before)), float(np.mean(self._after))
        note = (
            f"{self._changes} of {len(self._before)} layers reconstructed; mean relative error of their results on "
            f"{' and '.join(self._measured_on)} {before:.2%} → {after:.2%}"
        )
        return Outcome(self._changes, self._refusals, [note])
