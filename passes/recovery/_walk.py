"""Repairing layer after layer: which ones, towards what, and what both models show of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from graphpress.ir import Model, Node, Refusal, Value, label
from graphpress.manager.contract import Context
from graphpress.observation.lockstep import Lockstep, Pieces
from graphpress.observation.replay import Arrays, ReplayOptions, Segment
from graphpress.observation.waves import can_wait, waves_of
from graphpress.passes.layers import Layer, as_read, read_layer
from graphpress.passes.recovery._damage import damaged
from graphpress.passes.recovery._targets import Target, own_target, sum_target


def nothing_before(name: str, context: Context) -> Refusal | None:
    """Why a pass that repairs towards the start of its transaction cannot, or None."""
    if context.start is None:
        return Refusal(name, "there is no model to repair towards", "put it behind prune, quantize or sparsify")
    return None


@dataclass
class Plan:
    """What is repaired, in which order.

    Args:
        waves: the layers' nodes, those of one wave independent of one another.
        layers: by node.
        targets: what each aims at.
        refusals: layers that could have been repaired and are not.
    """

    waves: list[list[Node]] = field(default_factory=list)
    layers: dict[Node, Layer] = field(default_factory=dict)
    targets: dict[Node, Target] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)


def plan(model: Model, context: Context, *, residual: bool) -> Plan:
    """Every layer whose result, or whose sum with another branch, differs from the start model's.

    Args:
        model: the changed model.
        context: of the pass.
        residual: aim at the sum behind a residual addition where there is one.
    """
    assert context.start is not None
    found = Plan()
    hurt = damaged(model, context.start)
    known = {value.name for node in context.start.graph for value in node.outputs}
    for node in model.graph:
        if not hurt.intersection(node.outputs) or context.excluded(node):
            continue
        layer = read_layer(node, context.target.quantization.bias)
        if isinstance(layer, Refusal):
            found.refusals.append(layer)
        elif layer is not None and label(node.outputs[0]) not in known:
            found.refusals.append(Refusal.at(node, "the model at the start of the transaction has no such layer"))
        elif layer is not None:
            found.layers[node] = layer
    behind: dict[Node, Value] = {}
    for node in reversed(found.layers):
        result = node.outputs[0]
        target = sum_target(result) if residual else None
        if target is not None and target.other is not None and target.name in known:
            if can_wait(node, target.other, behind):
                behind[node] = target.other
            else:
                target = None
        found.targets[node] = target or own_target(result)
    found.waves = waves_of(model.graph, list(found.layers), behind)
    return found


@dataclass(frozen=True)
class Shown:
    """One piece of a layer.

    Args:
        node: the layer.
        data: what it reads, as it reads it.
        target: what it should compute.
        result: what it computes as it is; None unless asked for.
    """

    node: Node
    data: np.ndarray
    target: np.ndarray
    result: np.ndarray | None = None


class Walk:
    """Shows the layers of a plan, wave by wave, what they read in the changed model and what they should compute."""

    def __init__(self, model: Model, context: Context, found: Plan, samples: int, *, results: bool = False) -> None:
        assert context.calibration is not None
        self._model, self._plan, self._context, self._results = model, found, context, results
        data = Pieces.of(model, context.calibration, samples)
        options = ReplayOptions(data.samples, context.threads)
        self._steps = Lockstep(model, found.waves, data, context.start, options)

    def wave(self, index: int) -> Iterator[Sequence[Shown]]:
        """Piece by piece, one entry for each layer of the wave."""
        nodes = self._plan.waves[index]
        of_changed, of_start = dict[str, None](), dict[str, None]()
        targets = {node: self._settled(index, node) for node in nodes}
        for node, target in targets.items():
            of_changed[label(node.inputs[0])] = None
            if target.other is not None:
                of_changed[label(target.other)] = None
            of_start[target.name] = None
        layers: Segment | None = None
        for now, then in self._steps.look(index, list(of_changed), list(of_start)):
            results: Arrays = {}
            if self._results:
                names = [label(node.outputs[0]) for node in nodes]
                layers = layers or Segment(self._model, now, names, self._context.threads)
                results = layers.run(now)
            yield [self._shown(node, targets[node], now, then, results) for node in nodes]

    def _shown(self, node: Node, target: Target, now: Arrays, then: Arrays, results: Arrays) -> Shown:
        return Shown(
            node,
            as_read(node, 0, now[label(node.inputs[0])]),
            target.rows_from(then[target.name], now, self._context.kept),
            results.get(label(node.outputs[0])),
        )

    def _settled(self, wave: int, node: Node) -> Target:
        """The target, or the node's own result where the other branch is not final yet after all."""
        target = self._plan.targets[node]
        other = [] if target.other is None else [label(target.other)]
        return target if self._steps.can_show(wave, other, [target.name]) else own_target(node.outputs[0])
