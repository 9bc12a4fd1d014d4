"""Layers as problems: their matrix from the model, how their inputs vary from the data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np

from graphpress.analysis.linear import LinearOp, parameters_of
from graphpress.analysis.linear.bias import takes_shift
from graphpress.data import Feed
from graphpress.ir import Model, label
from graphpress.manager.contract import Context
from graphpress.observation import Moments, Observation, Pieces, input_moments
from graphpress.observation.gram import in_portions
from graphpress.observation.least_squares import Summary
from graphpress.passes.lowrank._form import ChainStage, Form, Ranks
from graphpress.passes.lowrank._problem import LayerProblem, regularized
from graphpress.passes.lowrank._tables import add_rows, gather_of

ROOM = 256 << 20
"""Bytes of Gram matrices that are summed at a time, as long as a single one fits."""


def problems(
    model: Model, ops: Iterable[LinearOp], data: Pieces | None, context: Context, positions: int
) -> Iterator[tuple[LinearOp, LayerProblem | None]]:
    """Layer by layer its problem in the data's norm, or in that of its weights where there is no data; None where it
    reads infinite or undefined values.

    Few Gram matrices are held at a time; the data is read as often as that takes.
    """
    for some in in_portions(ops, ROOM):
        moments = _observed(model, some, data, context, positions) if data is not None else {}
        for op in some:
            seen = moments.pop(label(op.result), None)
            if seen is not None:
                add_rows(seen, op)
            yield op, problem_of(op, seen) if seen is None or seen.is_finite else None


def problem_of(op: LinearOp, seen: Moments | Summary | None = None, matrix: np.ndarray | None = None) -> LayerProblem:
    """The problem of a layer that reads what was seen.

    Args:
        op: the layer.
        seen: of its data; None to weigh all weights, or all rows of a table, alike.
        matrix: to decompose in place of its own.
    """
    matrix, kernel = parameters_of(op).matrix if matrix is None else matrix, op.kernel_shape[3:]
    if seen is None and gather_of(op) is not None:
        seen = Moments()
        add_rows(seen, op)
    if seen is None:
        return LayerProblem(matrix, kernel)
    rows = seen.count if gather_of(op) is None else math.inf  # all rows of a table are there
    if not takes_shift(op):
        return LayerProblem(matrix, kernel, regularized(seen.gram, rows))
    return LayerProblem(matrix, kernel, regularized(seen.covariance, rows), seen.mean)


def outline_of(op: LinearOp, form: Form, ranks: Ranks) -> list[ChainStage]:
    """The chain that a layer becomes, with any numbers; the weight is not read."""
    return form.outline(shape_of_problem(op), ranks)


def shape_of_problem(op: LinearOp) -> LayerProblem:
    """A problem of the layer's shape, all zero, that takes no memory: what ranks and costs follow from."""
    return LayerProblem(np.broadcast_to(0.0, op.matrix_shape), op.kernel_shape[3:])


def _observed(
    model: Model, ops: list[LinearOp], data: Iterable[Feed], context: Context, positions: int
) -> dict[str, Moments]:
    options = Observation(positions, context.threads, context.progress)
    return dict(input_moments(model, ops, data, options))
