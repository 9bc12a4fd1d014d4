"""Set weights to zero, anywhere or n in every m along the contracted axis, and annotate them as sparse.

Which go is the criterion's choice: ``magnitude`` (no data), ``wanda`` or ``sparsegpt`` (calibration data; sparsegpt
also changes what is left to make up for what goes). Layers are worked on from the input to the output, each on what the
layers before, already sparse, feed it.

Refuses layers whose weight is shared, encoded already (sparsify before quantizing; zeros stay zeros on a symmetric
grid), or has a contracted axis that m does not divide.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from graphpress.analysis.linear import LinearOp, changeable_linear_op
from graphpress.errors import UsageError
from graphpress.ir import Editor, Model, Node, Refusal, label
from graphpress.ir.encoding import read_encoding
from graphpress.ir.sparsity import Sparsity, block_of, set_sparsity
from graphpress.manager.contract import Context, Outcome, Pass
from graphpress.observation import (
    GramObserver,
    LayerPiece,
    LayerWalk,
    Moments,
    Observation,
    Pieces,
    Wanted,
    input_moments,
    waves_of,
)
from graphpress.observation.gram import POSITIONS
from graphpress.passes.sparsify._criterion import SparsityCriterion, SparsityRule
from graphpress.passes.sparsify._patterns import keep_globally, zeroed
from graphpress.passes.sparsify.magnitude import Magnitude
from graphpress.passes.sparsify.sparsegpt import SparseGpt
from graphpress.passes.sparsify.wanda import WandaSparsity
from graphpress.targets import SparsityPolicy

SAME_SIZE = "the file is as large as before, only a compressed download of it is smaller"
NOT_FINITE = "it reads infinite or undefined values"

_HALF = 0.5


@dataclass(frozen=True)
class Sparsify(Pass):
    """Zeros in the weights of convolutions and matrix products.

    Args:
        sparsity: share of the weights that becomes zero; follows from the pattern where that is n:m, else 0.5.
        pattern: ``unstructured``, or n:m such as 2:4 (of every m consecutive input channels at most n stay; in a recipe
            file it has to be quoted).
        scope: where the lowest scores are looked for: in each layer, or in all layers at once.
        criterion: how weights are compared.
        samples: calibration samples that are looked at, at most.
        positions: positions of a convolution's result that are looked at in each sample.
    """

    name: ClassVar[str] = "sparsify"
    lossless: ClassVar[bool] = False

    sparsity: float | None = None
    pattern: str = "unstructured"
    scope: Literal["layer", "global"] = "layer"
    criterion: Literal["magnitude", "wanda", "sparsegpt"] = "magnitude"
    samples: int = 256
    positions: int = POSITIONS

    def __post_init__(self) -> None:
        block = block_of(self.pattern)
        if self.sparsity is not None and not 0 < self.sparsity < 1:
            raise UsageError(
                f"sparsity must lie between 0 and 1, not {self.sparsity}", where=self.name, fix="0.5 is usual"
            )
        implied = 0.0 if block is None else 1 - block[0] / block[1]
        if block is not None and self.sparsity not in (None, implied):
            raise UsageError(
                f"the pattern {self.pattern} makes {implied:.4g} of the weights zero, not {self.sparsity}",
                where=self.name,
                fix="leave sparsity out, or choose another pattern",
            )
        if self.scope == "global" and (block is not None or self.criterion == "sparsegpt"):
            raise UsageError(
                "scope=global compares single weights of all layers",
                where=self.name,
                fix="use it with pattern=unstructured and criterion=magnitude or wanda",
            )
        if min(self.samples, self.positions) < 1:
            raise UsageError("samples and positions must be at least 1", where=self.name, fix="leave them out")

    @property
    def rule(self) -> SparsityRule:
        """Where the zeros go."""
        block = block_of(self.pattern)
        if block is not None:
            return SparsityRule(1 - block[0] / block[1], block)
        return SparsityRule(_HALF if self.sparsity is None else self.sparsity)

    def refuse(self, model: Model, context: Context) -> Refusal | None:
        """Criteria that look at activations need data."""
        if self._criterion().needs != "nothing" and context.calibration is None:
            return Refusal(
                self.name,
                f"criterion={self.criterion} needs calibration data",
                "give it with --data FILE, or use magnitude",
            )
        return None

    def run(self, model: Model, context: Context) -> Outcome:
        """Choose, zero, annotate."""
        layers, refusals = self._layers(model, context)
        if not layers:
            return Outcome(0, refusals, ["no layer has a weight that can be made sparse"])
        if self.scope == "global":
            refusals += self._globally(model, layers, context)
        elif self._criterion().needs == "nothing":
            for op in layers.values():
                self._write(model, op, self._sparse(op, None))
        else:
            refusals += self._layer_by_layer(model, layers, context)
        return Outcome(len(layers), refusals, [_share(layers), self._worth(context.target.sparsity)])

    def _criterion(self) -> SparsityCriterion:
        criteria: dict[str, SparsityCriterion] = {
            "magnitude": Magnitude(),
            "wanda": WandaSparsity(),
            "sparsegpt": SparseGpt(),
        }
        return criteria[self.criterion]

    def _layers(self, model: Model, context: Context) -> tuple[dict[Node, LinearOp], list[Refusal]]:
        layers, refusals = dict[Node, LinearOp](), list[Refusal]()
        for node in model.graph:
            op = None if context.excluded(node) else changeable_linear_op(node)
            refusal = op if isinstance(op, Refusal) else None if op is None else self._unfit(op)
            if refusal is not None:
                refusals.append(refusal)
            elif isinstance(op, LinearOp):
                layers[node] = op
        return layers, refusals

    def _unfit(self, op: LinearOp) -> Refusal | None:
        block, channels = block_of(self.pattern), op.kernel_shape[1]
        if read_encoding(op.node, op.weight_index) is not None:
            return Refusal.at(op.node, "its weight is quantized already", "sparsify before quantizing")
        if block is not None and channels % block[1]:
            why = f"{block[1]} does not divide the {channels} input channels that an output reads"
            return Refusal.at(op.node, why)
        return None

    def _worth(self, policy: SparsityPolicy) -> str:
        """What the target makes of the zeros, for the report."""
        if self.pattern in policy.patterns:
            return f"the target has kernels for {self.pattern} sparse weights: {policy.gain}; {SAME_SIZE}"
        return f"the zeros save no time: {policy.no_gain}; {SAME_SIZE}"

    def _sparse(self, op: LinearOp, seen: Moments | None) -> np.ndarray:
        return self._criterion().sparse(op, op.stored_weight(), seen, self.rule)

    def _globally(self, model: Model, layers: dict[Node, LinearOp], context: Context) -> list[Refusal]:
        """Compare the weights of all layers at once; what reads infinities stays dense."""
        criterion, moments = self._criterion(), dict[str, Moments]()
        assert isinstance(criterion, Magnitude | WandaSparsity)
        if criterion.needs != "nothing":
            assert context.calibration is not None
            data = Pieces.of(model, context.calibration, self.samples)
            options = Observation(self.positions, context.threads, context.progress, full=False)
            moments = input_moments(model, layers.values(), data, options)
        unsound = [node for node in layers if label(node.outputs[0]) in moments]
        unsound = [node for node in unsound if not moments[label(node.outputs[0])].is_finite]
        for node in unsound:
            del layers[node]
        weights = {node: op.stored_weight() for node, op in layers.items()}
        scores = {
            node: criterion.scores(op, weights[node], moments.get(label(node.outputs[0])))
            for node, op in layers.items()
        }
        kept = keep_globally(scores, self.rule.share)
        for node, op in layers.items():
            self._write(model, op, zeroed(weights[node], kept[node]))
        return [Refusal.at(node, NOT_FINITE) for node in unsound]

    def _layer_by_layer(self, model: Model, layers: dict[Node, LinearOp], context: Context) -> list[Refusal]:
        """Look at what each layer reads, make it sparse, go on; what reads infinities stays dense."""
        assert context.calibration is not None
        refusals, full = list[Refusal](), self._criterion().needs == "gram"

        def finish(op: LinearOp, moments: Moments) -> None:
            if moments.is_finite:
                self._write(model, op, self._sparse(op, moments))
            else:
                refusals.append(Refusal.at(op.node, NOT_FINITE))
                del layers[op.node]

        data = Pieces.of(model, context.calibration, self.samples)
        walk = LayerWalk(model, waves_of(model.graph, list(layers)), data, threads=context.threads)
        walk.run(
            lambda node: _Observed(GramObserver(layers[node], self.positions, full=full), finish),
            context.progress,
            "sparsifying",
        )
        return refusals

    def _write(self, model: Model, op: LinearOp, weight: np.ndarray) -> None:
        own = Editor(model).own_constant(op.node, op.weight_index, weight)
        zeros = 1 - np.count_nonzero(weight) / max(weight.size, 1)
        set_sparsity(own, Sparsity(self.pattern, op.in_axis, math.floor(zeros * 1e4) / 1e4))


@dataclass(frozen=True)
class _Observed:
    """A layer whose weight is chosen by the moments of what it reads.

    Args:
        observer: of the layer.
        write: takes the layer and its moments.
    """

    observer: GramObserver
    write: Callable[[LinearOp, Moments], None]

    @property
    def wants(self) -> Wanted:
        return Wanted(inputs=(label(self.observer.op.data),))

    def see(self, piece: LayerPiece) -> None:
        self.observer.update(piece.inputs[label(self.observer.op.data)])

    def finish(self) -> None:
        self.write(self.observer.op, self.observer.moments)


def _share(layers: Mapping[Node, LinearOp]) -> str:
    """How much of the weights is zero, for the report."""
    weights = [op.stored_weight() for op in layers.values()]
    zeros = 1 - sum(np.count_nonzero(weight) for weight in weights) / max(1, sum(weight.size for weight in weights))
    return f"{zeros:.1%} of the weights of {len(layers)} layers are zero"
