"""Layers as problems: their matrix from the model, how their inputs vary from the data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from graphpress.analysis.linear import LinearOp, parameters_of
from graphpress.analysis.linear.bias import takes_shift
from graphpress.data import Feed
from graphpress.ir import Model, label
from graphpress.manager.contract import Context
from graphpress.observation import Moments, Observation, Pieces, input_moments
from graphpress.observation.gram import GRAM_BUDGET, in_portions
from graphpress.passes.lowrank._layer import LayerProblem, regularized


def problems(
    model: Model, ops: Iterable[LinearOp], data: Pieces | None, context: Context, positions: int
) -> Iterator[tuple[LinearOp, LayerProblem | None]]:
    """Layer by layer its problem in the data's norm, or in that of its weights where there is no data; None where it
    reads infinite or undefined values.

    Few Gram matrices are held at a time; the data is read as often as that takes.
    """
    for some in in_portions(ops, GRAM_BUDGET):
        moments = _observed(model, some, data, context, positions) if data is not None else {}
        for op in some:
            seen = moments.pop(label(op.result), None)
            yield op, problem_of(op, seen) if seen is None or seen.is_finite else None


def problem_of(op: LinearOp, seen: Moments | None) -> LayerProblem:
    """The problem of a layer that reads what was seen."""
    matrix, kernel = parameters_of(op).matrix, op.kernel_shape[3:]
    if seen is None:
        return LayerProblem(matrix, kernel)
    if not takes_shift(op):
        return LayerProblem(matrix, kernel, regularized(seen.gram))
    return LayerProblem(matrix, kernel, regularized(seen.covariance), seen.mean)


def _observed(
    model: Model, ops: list[LinearOp], data: Iterable[Feed], context: Context, positions: int
) -> dict[str, Moments]:
    options = Observation(positions, context.threads, context.progress)
    return dict(input_moments(model, ops, data, options))
