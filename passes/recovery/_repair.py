"""Repairing layer after layer: which ones, towards what, and what both models show of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np

from graphpress.analysis.linear import LinearOp, as_read, changeable_linear_op
from graphpress.coupling.kept import Kept
from graphpress.ir import Model, Node, Refusal, Value, label
from graphpress.ir.factors import is_factor
from graphpress.manager.contract import Context
from graphpress.observation import LayerPiece, LayerWalk, Pieces, Wanted, can_wait, waves_of
from graphpress.passes.recovery._damage import damaged
from graphpress.passes.recovery._targets import FitTarget, own_target, sum_target


def nothing_before(name: str, context: Context) -> Refusal | None:
    """Why a pass that repairs towards the start of its transaction cannot, or None."""
    if context.transaction is None:
        return Refusal(name, "there is no model to repair towards", "put it behind prune, quantize or sparsify")
    return None


@dataclass
class RepairPlan:
    """What is repaired, in which order.

    Args:
        waves: the layers' nodes, those of one wave independent of one another.
        layers: by node.
        targets: what each aims at.
        refusals: layers that could have been repaired and are not.
    """

    waves: list[list[Node]] = field(default_factory=list)
    layers: dict[Node, LinearOp] = field(default_factory=dict)
    targets: dict[Node, FitTarget] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)


def plan_repair(model: Model, context: Context, *, residual: bool) -> RepairPlan:
    """Every layer whose result, or whose sum with another branch, differs from the start model's.

    Args:
        model: the changed model.
        context: of the pass.
        residual: aim at the sum behind a residual addition where there is one.
    """
    assert context.transaction is not None
    start = context.transaction.start
    layers, refusals = _damaged_layers(model, start, context)
    targets, behind = _targets(layers, _results(start), residual=residual)
    return RepairPlan(waves_of(model.graph, list(layers), behind), layers, targets, refusals)


def _results(model: Model) -> set[str | None]:
    return {value.name for node in model.graph for value in node.outputs}


def _damaged_layers(model: Model, start: Model, context: Context) -> tuple[dict[Node, LinearOp], list[Refusal]]:
    layers, refusals = dict[Node, LinearOp](), list[Refusal]()
    hurt, known = damaged(model, start), _results(start)
    for node in model.graph:
        if not hurt.intersection(node.outputs) or context.excluded(node):
            continue
        op = changeable_linear_op(node)
        if isinstance(op, Refusal):
            refusals.append(op)
        elif op is not None and is_factor(node) and label(node.outputs[0]) not in known:
            continue  # what it computes is new; the last factor of its chain makes up for it
        elif op is not None and label(node.outputs[0]) not in known:
            refusals.append(Refusal.at(node, "the model at the start of the transaction has no such layer"))
        elif op is not None:
            layers[node] = op
    return layers, refusals


def _targets(
    layers: dict[Node, LinearOp], known: set[str | None], *, residual: bool
) -> tuple[dict[Node, FitTarget], dict[Node, Value]]:
    """What each layer aims at, and the other branch that has to be final before those that aim at a sum."""
    targets, behind = dict[Node, FitTarget](), dict[Node, Value]()
    for node in reversed(layers):
        result = node.outputs[0]
        target = sum_target(result) if residual else None
        if target is not None and target.other is not None and target.name in known:
            if can_wait(node, target.other, behind):
                behind[node] = target.other
            else:
                target = None
        targets[node] = target or own_target(result)
    return targets, behind


@dataclass(frozen=True)
class Shown:
    """One piece of what a layer does.

    Args:
        node: the layer.
        value: what it reads, before it is rounded there.
        target: what it should compute.
    """

    node: Node
    value: np.ndarray
    target: np.ndarray

    @cached_property
    def data(self) -> np.ndarray:
        """What it reads, as it reads it."""
        return as_read(self.node, 0, self.value)


class LayerRepair(Protocol):
    """The repair of one layer."""

    def add(self, shown: Shown) -> None:
        """Take in one piece."""
        ...

    def finish(self) -> None:
        """Write what is better, or leave the layer."""
        ...


def repair(
    model: Model, context: Context, plan: RepairPlan, samples: int, begin: Callable[[LinearOp], LayerRepair]
) -> None:
    """Walk through the layers of a plan, on so many samples at most: ``begin`` makes the repair of each."""
    assert context.calibration is not None
    assert context.transaction is not None
    start, kept = context.transaction.start, context.transaction.kept
    data = Pieces.of(model, context.calibration, samples)
    walk = LayerWalk(model, plan.waves, data, start, threads=context.threads)

    def task(node: Node) -> _RepairTask:
        aimed = _RepairTask(node, plan.targets[node], kept, begin(plan.layers[node]))
        if walk.can_show(node, aimed.wants):
            return aimed
        own = own_target(node.outputs[0])  # the other branch is not final yet after all
        return _RepairTask(node, own, kept, aimed.repair)

    walk.run(task, context.progress, "reconstructing")


@dataclass(frozen=True)
class _RepairTask:
    """Shows one layer to its repair."""

    node: Node
    target: FitTarget
    kept: Mapping[str, Kept]
    repair: LayerRepair

    @property
    def wants(self) -> Wanted:
        other = () if self.target.other is None else (label(self.target.other),)
        return Wanted((label(self.node.inputs[0]), *other), (self.target.name,))

    def see(self, piece: LayerPiece) -> None:
        target = self.target.rows_from(piece.reference[self.target.name], piece.inputs, self.kept)
        self.repair.add(Shown(self.node, piece.inputs[label(self.node.inputs[0])], target))

    def finish(self) -> None:
        self.repair.finish()
