"""Set weights to zero, anywhere or n in every m along the contracted axis, and annotate them as sparse.

Which go is the criterion's to say: ``magnitude`` (no data), ``wanda`` or ``sparsegpt`` (calibration data; sparsegpt
also changes what is left to make up for what goes). Layers are worked on from the input to the output, each on what the
layers before, already sparse, feed it.

Refuses layers whose weight is shared, encoded already (sparsify before quantising; zeros stay zeros on a symmetric
grid), or has a contracted axis that m does not divide.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from graphpress.errors import UsageError
from graphpress.ir import Editor, Model, Node, Refusal, constant, label
from graphpress.ir.encoding import read_encoding
from graphpress.ir.sparsity import Sparsity, block_of, set_sparsity
from graphpress.manager.contract import Context, Outcome, Pass
from graphpress.observation import GramObserver, Moments, Observation, input_moments
from graphpress.observation.gram import POSITIONS
from graphpress.observation.lockstep import Lockstep, Pieces
from graphpress.observation.replay import ReplayOptions
from graphpress.observation.waves import waves_of
from graphpress.passes.layers import Layer, read_layer
from graphpress.passes.sparsify._patterns import keep_globally, zeroed
from graphpress.passes.sparsify.criterion import Criterion, Rule
from graphpress.passes.sparsify.magnitude import Magnitude
from graphpress.passes.sparsify.sparsegpt import SparseGpt
from graphpress.passes.sparsify.wanda import Wanda

NO_GAIN = (
    "the zeros save no time: ONNX Runtime has no kernels for sparse weights; the file is as large as before, only a "
    "compressed download of it is smaller"
)
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
    def rule(self) -> Rule:
        """Where the zeros go."""
        block = block_of(self.pattern)
        if block is not None:
            return Rule(1 - block[0] / block[1], block)
        return Rule(_HALF if self.sparsity is None else self.sparsity)

    def refuse(self, model: Model, context: Context) -> Refusal | None:
        """Criteria that look at activations need data."""
        if self._judge().needs != "nothing" and context.calibration is None:
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
        elif self._judge().needs == "nothing":
            self._write_all(model, layers, {one.contraction.node: self._sparse(one, None) for one in layers.values()})
        else:
            refusals += self._in_turn(model, layers, context)
        return Outcome(len(layers), refusals, _notes(layers))

    def _judge(self) -> Criterion:
        judges: dict[str, Criterion] = {"magnitude": Magnitude(), "wanda": Wanda(), "sparsegpt": SparseGpt()}
        return judges[self.criterion]

    def _layers(self, model: Model, context: Context) -> tuple[dict[Node, Layer], list[Refusal]]:
        layers, refusals = dict[Node, Layer](), list[Refusal]()
        for node in model.graph:
            found = None if context.excluded(node) else read_layer(node)
            refusal = found if isinstance(found, Refusal) else None if found is None else self._unfit(found)
            if refusal is not None:
                refusals.append(refusal)
            elif isinstance(found, Layer):
                layers[node] = found
        return layers, refusals

    def _unfit(self, layer: Layer) -> Refusal | None:
        contraction, block = layer.contraction, block_of(self.pattern)
        if read_encoding(contraction.node, contraction.weight) is not None:
            return Refusal.at(contraction.node, "its weight is quantised already", "sparsify before quantising")
        channels = contraction.shape[contraction.in_axis]
        if contraction.node.op_type == "ConvTranspose":
            channels //= contraction.groups
        if block is not None and channels % block[1]:
            why = f"{block[1]} does not divide the {channels} input channels that an output reads"
            return Refusal.at(contraction.node, why)
        return None

    def _sparse(self, layer: Layer, seen: Moments | None) -> np.ndarray:
        return self._judge().sparse(layer, _weight(layer), seen, self.rule)

    def _globally(self, model: Model, layers: dict[Node, Layer], context: Context) -> list[Refusal]:
        """Compare the weights of all layers at once; what reads infinities stays dense."""
        judge, moments = self._judge(), dict[str, Moments]()
        assert isinstance(judge, Magnitude | Wanda)
        if judge.needs != "nothing":
            assert context.calibration is not None
            data = Pieces.of(model, context.calibration, self.samples)
            options = Observation(self.positions, context.threads, context.progress, full=False)
            moments = input_moments(model, [one.contraction for one in layers.values()], data, options)
        unsound = [node for node in layers if label(node.outputs[0]) in moments]
        unsound = [node for node in unsound if not moments[label(node.outputs[0])].is_finite]
        for node in unsound:
            del layers[node]
        weights = {node: _weight(layer) for node, layer in layers.items()}
        scores = {
            node: judge.scores(layer, weights[node], moments.get(label(node.outputs[0])))
            for node, layer in layers.items()
        }
        kept = keep_globally(scores, self.rule.share)
        self._write_all(model, layers, {node: zeroed(weight, kept[node]) for node, weight in weights.items()})
        return [Refusal.at(node, NOT_FINITE) for node in unsound]

    def _in_turn(self, model: Model, layers: dict[Node, Layer], context: Context) -> list[Refusal]:
        """Wave by wave: look at what the layers read, make them sparse; what reads infinities stays dense."""
        assert context.calibration is not None
        refusals = list[Refusal]()
        waves = waves_of(model.graph, list(layers))
        data = Pieces.of(model, context.calibration, self.samples)
        steps = Lockstep(model, waves, data, None, ReplayOptions(data.samples, context.threads))
        full = self._judge().needs == "gram"
        for index in context.progress.track(range(len(waves)), "sparsifying", len(waves)):
            watchers = {
                node: GramObserver(layers[node].contraction, self.positions, full=full) for node in waves[index]
            }
            names = list(dict.fromkeys(label(node.inputs[0]) for node in watchers))
            for now, _ in steps.look(index, names, ()):
                for node, watcher in watchers.items():
                    watcher.update(now[label(node.inputs[0])])
            done = dict[Node, np.ndarray]()
            for node, watcher in watchers.items():
                if watcher.moments.is_finite:
                    done[node] = self._sparse(layers[node], watcher.moments)
                else:
                    refusals.append(Refusal.at(node, NOT_FINITE))
                    del layers[node]
            self._write_all(model, layers, done)
        return refusals

    def _write_all(self, model: Model, layers: Mapping[Node, Layer], weights: Mapping[Node, np.ndarray]) -> None:
        edit = Editor(model)
        for node, array in weights.items():
            contraction = layers[node].contraction
            own = edit.own_constant(node, contraction.weight, array)
            zeros = 1 - np.count_nonzero(array) / max(array.size, 1)
            set_sparsity(own, Sparsity(self.pattern, contraction.in_axis, math.floor(zeros * 1e4) / 1e4))


def _weight(layer: Layer) -> np.ndarray:
    weight = constant(layer.contraction.kernel)
    assert weight is not None
    return weight


def _notes(layers: Mapping[Node, Layer]) -> list[str]:
    weights = [_weight(layer) for layer in layers.values()]
    zeros = 1 - sum(np.count_nonzero(one) for one in weights) / max(1, sum(one.size for one in weights))
    return [f"{zeros:.1%} of the weights of {len(layers)} layers are zero", NO_GAIN]
