"""Re-estimate the statistics of BatchNormalization nodes on the calibration data.

    μ ← E[x],  σ² ← E[(x − μ)²]        by channel, over samples and positions

x is what the changed model feeds the node, with the normalisations before already corrected: pruned or rounded layers
give other means and variances than those that training left in the model.

Refuses a model without such nodes: where they are folded into the layers before them, ``correct_bias`` and
``reconstruct`` do what can be done. Refuses nodes in training mode and statistics that are not constant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphpress.errors import UsageError
from graphpress.ir import Editor, Model, Node, Refusal, constant, int_attribute, is_constant, is_standard, label
from graphpress.manager.contract import Context, Outcome, Pass
from graphpress.observation.gram import Moments
from graphpress.observation.lockstep import Lockstep, Pieces
from graphpress.observation.replay import ReplayOptions
from graphpress.observation.waves import waves_of
from graphpress.passes.recovery._damage import damaged

_MEAN, _VARIANCE = 3, 4


@dataclass(frozen=True)
class CorrectBatchNorm(Pass):
    """Estimate the statistics of batch normalisations anew, on the calibration data.

    Args:
        samples: calibration samples that are looked at, at most.
    """

    name: ClassVar[str] = "correct_batch_norm"
    lossless: ClassVar[bool] = False
    recovers: ClassVar[bool] = True
    needs_data: ClassVar[bool] = True

    samples: int = 1000

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise UsageError("samples must be at least 1", where=self.name, fix="leave it out for the default")

    def refuse(self, model: Model, context: Context) -> Refusal | None:
        """Needs data and nodes to correct."""
        if not any(is_standard(node, "BatchNormalization") for node in model.graph):
            return Refusal(
                self.name,
                "the model has no BatchNormalization nodes (they may be folded into their layers)",
                "use correct_bias or reconstruct",
            )
        return super().refuse(model, context)

    def run(self, model: Model, context: Context) -> Outcome:
        """Wave by wave: take the moments of what the nodes read."""
        assert context.calibration is not None
        nodes, refusals = _correctable(model, context)
        waves = waves_of(model.graph, nodes)
        data = Pieces.of(model, context.calibration, self.samples)
        steps = Lockstep(model, waves, data, None, ReplayOptions(data.samples, context.threads))
        edit, changes = Editor(model), 0
        for index in context.progress.track(range(len(waves)), "correcting normalisations", len(waves)):
            seen = {node: Moments(full=False) for node in waves[index]}
            for now, _ in steps.look(index, list(dict.fromkeys(label(node.inputs[0]) for node in seen)), ()):
                for node, moments in seen.items():
                    moments.add(_by_channel(now[label(node.inputs[0])]))
            for node, moments in seen.items():
                if moments.is_finite:
                    _write(edit, node, moments)
                    changes += 1
                else:
                    refusals.append(Refusal.at(node, "it reads infinite or undefined values"))
        return Outcome(
            changes, refusals, [f"statistics of {changes} normalisations estimated on {data.samples} samples"]
        )


def _correctable(model: Model, context: Context) -> tuple[list[Node], list[Refusal]]:
    """The normalisations that read something else than at the start of the transaction; all of them outside one."""
    hurt = None if context.start is None else damaged(model, context.start)
    nodes, refusals = list[Node](), list[Refusal]()
    for node in model.graph:
        if not is_standard(node, "BatchNormalization") or context.excluded(node):
            continue
        if hurt is not None and not hurt.intersection(node.outputs):
            continue
        if int_attribute(node, "training_mode", 0) or len(node.outputs) > 1:
            refusals.append(Refusal.at(node, "it is in training mode and takes its own statistics"))
        elif not all(is_constant(value) for value in node.inputs[_MEAN:]):
            refusals.append(Refusal.at(node, "its statistics are not constant", "run fold_constants first"))
        else:
            nodes.append(node)
    return nodes, refusals


def _by_channel(array: np.ndarray) -> np.ndarray:
    """As rows of channels, ``[1, samples · positions, channels]``."""
    return np.moveaxis(array, 1, -1).reshape(1, -1, array.shape[1])


def _write(edit: Editor, node: Node, moments: Moments) -> None:
    for index, array in ((_MEAN, moments.mean[0]), (_VARIANCE, moments.variance[0])):
        old = constant(node.inputs[index])
        assert old is not None
        edit.own_constant(node, index, array.astype(old.dtype))
