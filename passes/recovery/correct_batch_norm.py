"""Re-estimate the statistics of BatchNormalization nodes on the calibration data.

    μ ← μ + E[x̂] − E[x],    σ² ← σ² · Var[x̂] / Var[x]        by channel, over samples and positions

x̂ is what the changed model feeds the node, with the normalizations before already corrected, and x what the start model
does: pruned or rounded layers give other means and variances than those that training left in the model. Where μ and σ²
are those of x on this data, this is E[x̂] and Var[x̂]; where the calibration data is few or a little different, what
training knew better stays. Outside a transaction, without a start model, it is E[x̂] and Var[x̂].

Refuses a model without such nodes: where they are folded into the layers before them, ``correct_bias`` and
``reconstruct`` do what can be done. Refuses nodes in training mode and statistics that are not constant.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphpress.analysis.linear.rows import by_channel
from graphpress.coupling.kept import Kept
from graphpress.errors import UsageError
from graphpress.ir import Editor, Model, Node, Refusal, constant, int_attribute, is_constant, is_standard, label
from graphpress.manager.contract import Context, Outcome, Pass
from graphpress.observation import LayerPiece, LayerWalk, Moments, Pieces, Wanted, waves_of
from graphpress.passes._kept import restrict
from graphpress.passes.recovery._damage import damaged

_MEAN, _VARIANCE = 3, 4
_CONSTANT = 1e-4
"""A channel whose variance fell below this share of what it was is as good as constant: its variance stays."""


@dataclass(frozen=True)
class CorrectBatchNorm(Pass):
    """Estimate the statistics of batch normalizations anew, on the calibration data.

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
        data, edit, corrected = Pieces.of(model, context.calibration, self.samples), Editor(model), list[Node]()
        transaction = context.transaction
        start = None if transaction is None else transaction.start
        walk = LayerWalk(model, waves_of(model.graph, nodes), data, start, threads=context.threads)

        def finish(node: Node, moments: Moments) -> None:
            if moments.is_finite:
                _write(edit, node, moments)
                corrected.append(node)
            else:
                refusals.append(Refusal.at(node, "it reads infinite or undefined values"))

        def begin(node: Node) -> _Statistics:
            name = label(node.inputs[0])
            kept = None if transaction is None else transaction.kept.get(name)
            return _Statistics(node, kept, walk.can_show(node, Wanted(reference=(name,))), finish)

        walk.run(begin, context.progress, "correcting normalizations")
        changes = len(corrected)
        return Outcome(
            changes, refusals, [f"statistics of {changes} normalizations estimated on {data.samples} samples"]
        )


class _Statistics:
    """Moments of what a normalization reads, in the changed model and, where it can be shown, in the start model."""

    def __init__(self, node: Node, kept: Kept | None, compares: bool, write: Callable[[Node, Moments], None]) -> None:
        self._node, self._kept, self._compares, self._write = node, kept, compares, write
        self._name, self._moments = label(node.inputs[0]), Moments(full=False)

    @property
    def wants(self) -> Wanted:
        return Wanted(inputs=(self._name,), reference=(self._name,) if self._compares else ())

    def see(self, piece: LayerPiece) -> None:
        start = restrict(piece.reference[self._name], self._kept) if self._compares else None
        self._moments.add(by_channel(piece.inputs[self._name], 1), None if start is None else by_channel(start, 1))

    def finish(self) -> None:
        self._write(self._node, self._moments)


def _correctable(model: Model, context: Context) -> tuple[list[Node], list[Refusal]]:
    """The normalizations that read something else than at the start of the transaction; all of them outside one."""
    hurt = None if context.transaction is None else damaged(model, context.transaction.start)
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


def _write(edit: Editor, node: Node, moments: Moments) -> None:
    old_mean, old_variance = constant(node.inputs[_MEAN]), constant(node.inputs[_VARIANCE])
    assert old_mean is not None
    assert old_variance is not None
    mean, variance = moments.mean[0], moments.variance[0]
    if moments.has_targets:
        mean = old_mean + mean - moments.target_mean[0]
        start = moments.target_variance[0]
        sound = (start > 0) & (variance > _CONSTANT * start)  # else dividing by the deviation would blow up rounding
        variance = old_variance * np.where(sound, variance / np.where(sound, start, 1.0), 1.0)
    edit.own_constant(node, _MEAN, mean.astype(old_mean.dtype))
    edit.own_constant(node, _VARIANCE, variance.astype(old_variance.dtype))
