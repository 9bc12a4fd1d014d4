"""What an error in one layer does to the model: its damage measured at one or two choices, a power law through it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphpress.analysis.linear import LinearOp
from graphpress.evaluation.sensitivity import SAMPLES, DamageMeasure
from graphpress.ir import Editor, Model, clone
from graphpress.manager.contract import Context
from graphpress.passes.lowrank._alternating import JUDGING, decompose
from graphpress.passes.lowrank._candidates import DecomposableLayer
from graphpress.passes.lowrank._choices import RankChoice
from graphpress.passes.lowrank._form import ChainStage
from graphpress.passes.lowrank._forms import FORMS
from graphpress.passes.lowrank._problem import LayerProblem
from graphpress.passes.lowrank._tables import approximate_heads
from graphpress.passes.lowrank._write import in_copy, write_chain

PROBE_ERRORS = (0.05, 0.25)
"""The choices whose errors are nearest to these are measured: large enough to be seen, and as allocations take them."""
MEASURING_MACS = 4e12
"""Multiply-accumulates that measuring all layers may take, a minute or two of one core: on fewer samples, and of a
large model with one probe a layer."""
ENOUGH_SAMPLES = 16
"""On fewer samples, one probe a layer on twice as many tells more than two."""
FEWEST_SAMPLES = 4
"""On fewer, chance decides: all layers count alike."""

_STEEPEST = 3.0
_NO_ERROR = 1e-9


@dataclass(frozen=True)
class DamageCurve:
    """Damage as a power of a layer's relative error: ``scale · error^power``.

    Damage is quadratic in a small change, as the error is (power 1); it grows faster where a layer loses its meaning.
    """

    scale: float = 1.0
    power: float = 1.0

    def at(self, error: float) -> float:
        """The damage of an error."""
        return float(self.scale * error**self.power)

    @staticmethod
    def through(points: Sequence[tuple[float, float]]) -> DamageCurve:
        """From one or two pairs of error and damage."""
        (error, damage), *others = [(max(error, _NO_ERROR), max(damage, _NO_ERROR)) for error, damage in points]
        power = 1.0
        for other, harm in others:
            power = math.log(harm / damage) / math.log(other / error) if other > error else power
        power = min(max(power, 1.0), _STEEPEST)
        middle = [math.log(harm) - power * math.log(other) for other, harm in [(error, damage), *others]]
        return DamageCurve(math.exp(sum(middle) / len(middle)), power)


@dataclass(frozen=True)
class LayerSensitivity:
    """Measures layers of a model one by one.

    Args:
        model: not changed.
        measure: of damage from this model; None to take all layers for alike.
        missing: why there is no measure, a clause.
        errors: those that are probed.
    """

    model: Model
    measure: DamageMeasure | None
    missing: str | None = None
    errors: Sequence[float] = PROBE_ERRORS

    @staticmethod
    def of(model: Model, macs: int, layers: int, context: Context) -> LayerSensitivity:
        """With what the run has to measure damage, on as many samples as ``MEASURING_MACS`` allow.

        Args:
            model: not changed.
            macs: of one sample.
            layers: how many will be measured.
            context: of the pass.
        """
        if context.evaluation is None:
            return LayerSensitivity(model, None, "there is no data")
        affordable = int(MEASURING_MACS / max(macs * layers, 1))
        errors: Sequence[float] = PROBE_ERRORS[-1:]
        if affordable >= ENOUGH_SAMPLES * len(PROBE_ERRORS):
            affordable, errors = affordable // len(PROBE_ERRORS), PROBE_ERRORS
        if affordable < FEWEST_SAMPLES:
            return LayerSensitivity(model, None, "it would take too long")
        measure = context.evaluation.damage(model, min(affordable, SAMPLES))
        return LayerSensitivity(model, measure, errors=errors)

    def curve(self, layer: DecomposableLayer, problem: LayerProblem, choices: Sequence[RankChoice]) -> DamageCurve:
        """What errors in this layer do."""
        if self.measure is None or not choices:
            return DamageCurve()
        probes = {choice.error: choice for choice in (_nearest(choices, error) for error in self.errors)}
        return DamageCurve.through([(error, self._damage(layer, problem, probes[error])) for error in sorted(probes)])

    def _damage(self, layer: DecomposableLayer, problem: LayerProblem, choice: RankChoice) -> float:
        assert self.measure is not None
        form = FORMS[choice.form]
        factors = decompose(form, problem, choice.ranks, JUDGING)
        matrix, bias = form.matrix(factors, problem), layer.op.bias_rows()
        shift = problem.shift(matrix)
        shifted = None if shift is None or bias is None else bias + shift
        stages = form.stages(factors, problem)
        changed = with_chains(self.model, [LayerChain(op, stages, shifted) for op in layer.ops])
        if layer.gather is not None:
            approximate_heads(changed, layer.gather, matrix[0])
        return self.measure.damage(changed)


def _nearest(choices: Sequence[RankChoice], error: float) -> RankChoice:
    return min(choices, key=lambda choice: abs(math.log(max(choice.error, _NO_ERROR) / error)))


@dataclass(frozen=True)
class LayerChain:
    """A layer with what it becomes.

    Args:
        op: the layer.
        stages: of the chain.
        bias: ``[blocks, outputs]``; None to leave it as it is.
    """

    op: LinearOp
    stages: Sequence[ChainStage]
    bias: np.ndarray | None = None


def with_chains(model: Model, chains: Sequence[LayerChain]) -> Model:
    """A copy in which layers are chains."""
    copy = clone(model)
    edit = Editor(copy)
    for chain, op in zip(chains, in_copy((chain.op for chain in chains), copy), strict=True):
        write_chain(edit, op, chain.stages, chain.bias)
    return copy
