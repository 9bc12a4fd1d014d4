"""Decomposing layers from the input to the output, each on what the layers before, already decomposed, feed it.

    W* = argmin E‖y − Wᵀx̂ − b‖² + λ‖W − W₀‖²        x̂ what the changed model feeds the layer, y what it should compute
    Ŵ, the chosen form of W* in the norm of x̂;       b̂ = E y − Ŵᵀ E x̂

so that every layer makes up for what those before it lost (the asymmetric form; Zhang et al., arXiv 1505.06798,
section 3.2). A weight that several layers read is decomposed before, on what the original feeds them all; without
data, and inside of subgraphs, each weight is decomposed as it stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from graphpress.analysis.linear import LinearOp, LinearParameters, parameters_of
from graphpress.analysis.linear.bias import takes_shift
from graphpress.analysis.linear.rows import result_rows, rows_of, samples_of
from graphpress.ir import Editor, Model, Refusal, clone, label
from graphpress.manager.contract import Context
from graphpress.observation import LayerPiece, LayerWalk, Moments, Pieces, Wanted, waves_of
from graphpress.observation.gram import has_gram, in_portions, pieces_of
from graphpress.observation.least_squares import Summary, fit
from graphpress.passes.lowrank._alternating import decompose
from graphpress.passes.lowrank._candidates import DecomposableLayer, layers_in
from graphpress.passes.lowrank._form import Form, Ranks
from graphpress.passes.lowrank._observed import ROOM, problem_of, problems
from graphpress.passes.lowrank._problem import LayerProblem
from graphpress.passes.lowrank._tables import add_rows
from graphpress.passes.lowrank._write import write_chain, write_twins

PULL = 1e-2
"""How far W* is pulled towards the layer's own weights, as a share of the mean variance of its input."""
ROUNDING = 1e-6
"""Share of its power by which a result that is constant varies."""
NOT_FINITE = "it reads or computes infinite or undefined values"


class SeenRows(NamedTuple):
    """How many rows of data a layer saw, and of how many features."""

    rows: int
    features: int


@dataclass
class Decomposition:
    """What was done.

    Args:
        errors: by layer the share of the variance of its output that is lost, with the inputs that it has now;
            without data, of its weights' energy.
        energies: by layer the share that its ranks keep of what was decomposed.
        full_ranks: by layer those at which its form is exact.
        refusals: layers that stayed whole after all.
        rows: by layer those of the data that its covariance rests on; none without data.
        wide: by layer the features of which it has too many to see how they vary together.
    """

    errors: dict[str, float]
    refusals: list[Refusal]
    energies: dict[str, float] = field(default_factory=dict)
    full_ranks: dict[str, Ranks] = field(default_factory=dict)
    rows: dict[str, SeenRows] = field(default_factory=dict)
    wide: dict[str, int] = field(default_factory=dict)


def decompose_layers(
    model: Model,
    chosen: Mapping[str, tuple[DecomposableLayer, Form, Ranks]],
    data: Pieces | None,
    context: Context,
    positions: int,
) -> Decomposition:
    """Write chains into the model.

    Args:
        model: changed in place.
        chosen: by name the layer, and what becomes of it.
        data: what the layers read; None to decompose the weights as they stand.
        context: threads and progress.
        positions: rows that are looked at in each sample.
    """
    writer, reference = _Writer(Editor(model), chosen), clone(model)
    layers = [layer for layer, *_ in chosen.values()]
    at_once = [layer for layer in layers if data is None or layer.twins or not layer.is_seen]
    unchanged = layers_in(reference, {layer.name: layer for layer in at_once})
    for layer, problem in problems(reference, unchanged.values(), data, context, positions):
        writer.at_once(chosen[layer.name][0], problem)
    ops = {layer.op.node: layer.op for layer in layers if layer not in at_once}
    if data is None or not ops:
        return writer.done
    waves = [
        [op.node for op in some]
        for wave in waves_of(model.graph, list(ops))
        for some in in_portions([ops[node] for node in wave], ROOM)
    ]
    walk = LayerWalk(model, waves, data, reference, threads=context.threads)
    walk.run(lambda node: _Layer(ops[node], positions, writer), context.progress, "decomposing")
    return writer.done


@dataclass
class _Layer:
    """What a layer reads and should compute."""

    op: LinearOp
    positions: int
    writer: _Writer
    samples: int = 0

    def __post_init__(self) -> None:
        self.seen = Moments(full=has_gram(self.op))

    @property
    def wants(self) -> Wanted:
        return Wanted(inputs=(label(self.op.data),), reference=(label(self.op.result),))

    def see(self, piece: LayerPiece) -> None:
        data, result = piece.inputs[label(self.op.data)], piece.reference[label(self.op.result)]
        for part, target, sampling in pieces_of(self.op, data, result, self.positions, self.samples):
            assert target is not None
            self.seen.add(rows_of(self.op, part, sampling), result_rows(self.op, target, sampling))
        self.samples += samples_of(self.op, data)

    def finish(self) -> None:
        if self.seen.is_full:
            self.writer.with_data(self.op, self._taken())
        else:
            self.writer.with_variances(self.op, self.seen)

    def _taken(self) -> Summary:
        """What was seen; the sums themselves are let go, for what follows needs their room."""
        add_rows(self.seen, self.op)
        summary, self.seen = Summary.of(self.seen), Moments()
        return summary


class _Writer:
    """Turns layers into chains.

    Args:
        edit: of the model.
        chosen: what becomes of each.
    """

    def __init__(self, edit: Editor, chosen: Mapping[str, tuple[DecomposableLayer, Form, Ranks]]) -> None:
        self._edit, self._chosen, self.done = edit, chosen, Decomposition({}, [])

    def at_once(self, layer: DecomposableLayer, problem: LayerProblem | None) -> None:
        """Decompose a weight as it stands, for all layers that read it; None where these read undefined values."""
        if problem is None:
            self.done.refusals.append(Refusal.at(layer.node, NOT_FINITE))
            return
        if problem.rows and not has_gram(layer.op):
            self.done.wide[layer.name] = problem.matrix.shape[1]
        elif problem.rows:
            self.done.rows[layer.name] = SeenRows(problem.rows, layer.op.matrix_shape[1])
        if not layer.twins:
            self.done.errors[layer.name] = problem.error(
                self._write(layer.op, problem, parameters_of(layer.op).bias).matrix
            )
            return
        _, form, ranks = self._chosen[layer.name]
        factors = decompose(form, layer.weighted(problem), ranks)
        matrix = form.matrix(factors, problem)
        write_twins(self._edit, layer.ops, form.stages(factors, problem))
        self.done.errors[layer.name] = problem.error(matrix)
        self._record(layer.name, problem, matrix)

    def with_variances(self, op: LinearOp, seen: Moments) -> None:
        """Decompose a layer that has too many features to see how they vary together."""
        if not seen.is_finite:
            self.done.refusals.append(Refusal.at(op.node, NOT_FINITE))
            return
        problem, present = problem_of(op, seen), parameters_of(op)
        self.done.errors[label(op.result)] = problem.error(self._write(op, problem, present.bias).matrix)
        self.done.wide[label(op.result)] = problem.matrix.shape[1]

    def with_data(self, op: LinearOp, seen: Summary) -> None:
        """Decompose a layer that saw all of the data."""
        if not seen.is_finite:
            self.done.refusals.append(Refusal.at(op.node, NOT_FINITE))
            return
        self.done.rows[label(op.result)] = SeenRows(seen.count, op.matrix_shape[1])
        aim = _aim(op, seen)
        written = self._write(op, problem_of(op, seen, aim.matrix), aim.bias)
        self.done.errors[label(op.result)] = float(seen.error(written).sum()) / _variance(seen)

    def _write(self, op: LinearOp, problem: LayerProblem, bias: np.ndarray) -> LinearParameters:
        """Write the chain of a layer.

        Args:
            op: the layer.
            problem: what is decomposed.
            bias: that goes with the problem's matrix.

        Returns:
            What the layer computes as a chain.
        """
        name = label(op.result)
        layer, form, ranks = self._chosen[name]
        factors = decompose(form, layer.weighted(problem), ranks)
        matrix = form.matrix(factors, problem)
        self._record(name, problem, matrix)
        shift = problem.shift(matrix)
        shifted = bias if shift is None else bias + shift
        write_chain(self._edit, op, form.stages(factors, problem), None if shift is None else shifted)
        return LinearParameters(matrix, shifted)

    def _record(self, name: str, problem: LayerProblem, matrix: np.ndarray) -> None:
        """What the ranks of a layer keep."""
        layer, form, ranks = self._chosen[name]
        lost = None if layer.output_root is not None else form.known_error(problem, ranks)
        self.done.full_ranks[name] = form.full_ranks(problem)
        self.done.energies[name] = 1 - (problem.error(matrix) if lost is None else lost)


def _variance(seen: Summary) -> float:
    """Of a layer's result; of one that is the same in all rows, what rounding makes of its power."""
    variance = float(seen.variance.sum())
    return max(variance, ROUNDING * (variance + float(np.square(seen.target).sum())), np.finfo(float).tiny)


def _aim(op: LinearOp, seen: Summary) -> LinearParameters:
    """What the layer should compute from what it reads now: W*, or its own weights where the data says nothing."""
    present = parameters_of(op)
    return fit(seen, present, PULL, moves_bias=takes_shift(op)) or present
