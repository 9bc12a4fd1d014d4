"""What an error in one layer does to the model: its damage at one choice, divided by the choice's error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from graphpress.analysis.linear import LinearOp
from graphpress.evaluation.sensitivity import SAMPLES, DamageMeasure
from graphpress.ir import Editor, Model, Node, clone, label
from graphpress.manager.contract import Context
from graphpress.passes.lowrank._alternating import decompose
from graphpress.passes.lowrank._errors import SWEEPS, RankChoice
from graphpress.passes.lowrank._form import ChainStage
from graphpress.passes.lowrank._forms import FORMS
from graphpress.passes.lowrank._layer import LayerProblem
from graphpress.passes.lowrank._write import write_chain

PROBE_ERROR = 0.1
"""The choice whose error is nearest to this one is measured: large enough to be seen, and still small."""
MAX_MACS = 1e14
"""Multiply-accumulates up to which measuring all layers is worth it."""


@dataclass(frozen=True)
class LayerSensitivity:
    """Measures layers of a model one by one.

    Args:
        model: not changed.
        measure: of damage from this model; None to take all layers for alike.
    """

    model: Model
    measure: DamageMeasure | None

    @staticmethod
    def of(model: Model, macs: int, layers: int, context: Context) -> LayerSensitivity:
        """With what the run has to measure damage, unless that would take too long.

        Args:
            model: not changed.
            macs: of one sample.
            layers: how many will be measured.
            context: of the pass.
        """
        fast = macs * SAMPLES * layers <= MAX_MACS
        return LayerSensitivity(model, context.evaluation.damage(model) if context.evaluation and fast else None)

    def damage(self, op: LinearOp, problem: LayerProblem, choices: Sequence[RankChoice]) -> float:
        """The damage of an error of one in this layer; 1 where it is not measured."""
        if self.measure is None or not choices:
            return 1.0
        choice = min(choices, key=lambda choice: abs(np.log(max(choice.error, 1e-12) / PROBE_ERROR)))
        form = FORMS[choice.form]
        stages = form.stages(decompose(form, problem, choice.ranks, SWEEPS), problem)
        return self.measure.damage(with_chains(self.model, {op.node: (op, stages)})) / max(choice.error, 1e-12)


def with_chains(model: Model, chains: Mapping[Node, tuple[LinearOp, Sequence[ChainStage]]]) -> Model:
    """A copy in which layers are chains, their biases as they were."""
    copy = clone(model)
    twins = {label(node): node for node in copy.graph}
    edit = Editor(copy)
    for node, (op, stages) in chains.items():
        write_chain(edit, replace(op, node=twins[label(node)]), stages, None)
    return copy
