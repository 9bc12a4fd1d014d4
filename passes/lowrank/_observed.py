"""Layers as problems: their matrix from the model, how their inputs vary from the data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from graphpress.analysis.linear import LinearOp, parameters_of
from graphpress.analysis.linear.bias import takes_shift
from graphpress.data import Feed
from graphpress.ir import Model
from graphpress.manager.contract import Context
from graphpress.observation import Moments, Observation, Pieces, input_moments
from graphpress.observation.gram import has_gram, in_portions
from graphpress.observation.least_squares import Summary
from graphpress.passes.lowrank._candidates import DecomposableLayer
from graphpress.passes.lowrank._form import ChainStage, Form, Ranks
from graphpress.passes.lowrank._problem import LayerProblem, regularized, regularized_variances, shape_of_problem
from graphpress.passes.lowrank._tables import add_rows, gather_of

ROOM = 256 << 20
"""Bytes of Gram matrices that are summed at a time, as long as a single one fits."""


def problems(
    model: Model, layers: Iterable[DecomposableLayer], data: Pieces | None, context: Context, positions: int
) -> Iterator[tuple[DecomposableLayer, LayerProblem | None]]:
    """Layer by layer its problem in the data's norm, or in that of its weights where there is no data; None where it
    reads infinite or undefined values.

    Few Gram matrices are held at a time; the data is read as often as that takes.
    """
    by_node = {layer.op.node: layer for layer in layers}
    for some in in_portions((layer.op for layer in by_node.values()), ROOM):
        portion = [by_node[op.node] for op in some]
        shown = [member.op for layer in portion for member in layer.members if member.is_seen]
        moments = _observed(model, shown, data, context, positions) if data is not None and shown else {}
        for layer in portion:
            seen = [moments.pop(member.name) for member in layer.members if member.name in moments]
            yield layer, _problem(layer, seen)


def _problem(layer: DecomposableLayer, seen: Sequence[Moments]) -> LayerProblem | None:
    """The problem of a layer and its twins, from what some of them saw."""
    if layer.gather is not None:
        seen = seen or [Moments()]
        for moments in seen:
            add_rows(moments, layer.op)
    if not all(moments.is_finite for moments in seen):
        return None
    if layer.twins and seen:
        return _shared_problem(layer.op, seen)
    return problem_of(layer.op, next(iter(seen), None))


def _shared_problem(op: LinearOp, seen: Sequence[Moments]) -> LayerProblem:
    """The problem of a weight that several layers read: the rows of all of them; no bias makes up for their means."""
    rows = sum(moments.count for moments in seen)
    matrix, kernel = parameters_of(op).matrix, op.kernel_shape[3:]
    if not has_gram(op):
        squares = sum((moments.count / rows * moments.squares for moments in seen), np.zeros(()))
        return LayerProblem(matrix, kernel, regularized_variances(squares), rows=rows)
    gram = sum((moments.count / rows * moments.gram for moments in seen), np.zeros(()))
    return LayerProblem(matrix, kernel, regularized(gram, rows), rows=rows)


def problem_of(op: LinearOp, seen: Moments | Summary | None = None, matrix: np.ndarray | None = None) -> LayerProblem:
    """The problem of a layer that reads what was seen.

    Args:
        op: the layer.
        seen: of its data; None to weigh all weights alike.
        matrix: to decompose in place of its own.
    """
    matrix, kernel = parameters_of(op).matrix if matrix is None else matrix, op.kernel_shape[3:]
    if seen is None:
        return LayerProblem(matrix, kernel)
    if isinstance(seen, Moments) and not seen.is_full:
        return _of_variances(op, seen, matrix)
    rows = seen.count if gather_of(op) is None else math.inf  # all rows of a table are there
    if not takes_shift(op):
        return LayerProblem(matrix, kernel, regularized(seen.gram, rows))
    return LayerProblem(matrix, kernel, regularized(seen.covariance, rows), seen.mean)


def _of_variances(op: LinearOp, seen: Moments, matrix: np.ndarray) -> LayerProblem:
    """The problem of a layer of which the variances of its features are known."""
    kernel = op.kernel_shape[3:]
    if not takes_shift(op):
        return LayerProblem(matrix, kernel, regularized_variances(seen.squares))
    return LayerProblem(matrix, kernel, regularized_variances(seen.variance), seen.mean)


def outline_of(op: LinearOp, form: Form, ranks: Ranks) -> list[ChainStage]:
    """The chain that a layer becomes, with any numbers; the weight is not read."""
    return form.outline(shape_of_problem(op), ranks)


def _observed(
    model: Model, ops: list[LinearOp], data: Iterable[Feed], context: Context, positions: int
) -> dict[str, Moments]:
    moments = dict[str, Moments]()
    for full in (True, False):
        some = [op for op in ops if has_gram(op) == full]
        if some:
            options = Observation(positions, context.threads, context.progress, full=full)
            moments |= input_moments(model, some, data, options)
    return moments
