"""If, Loop and Scan: conditionals and loops of the network, with the subgraphs lowered inside them.

If      both branches are lowered; what they read from around enters through the conditional. A condition that is
        known leaves the one branch only.
Loop    each carried value is a recurrence, the number of the iteration too. It ends after a count, or when the
        condition that the body computes is false, whichever comes first.
Scan    as many iterations as the scanned axis is long; inputs are iterators, results are concatenated.

Refused: branches whose results differ in rank, results collected over a number of iterations that only the loop itself
finds out, and Scan of operator set 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphpress.backends.tensorrt.network.context import LoweringContext, Result, Rule
from graphpress.backends.tensorrt.network.layers import Tensor
from graphpress.backends.tensorrt.network.scope import Scope
from graphpress.ir import Graph, Value, constant, normalize_axis, producer


def entries() -> dict[str, Rule]:
    """The rules of this family."""
    return {"If": _if, "Loop": _loop, "Scan": _scan}


# -- If -------------------------------------------------------------------------------------------------------


def _if(ctx: LoweringContext) -> list[Result]:
    condition = ctx.node.constant(0)
    if condition is not None:
        return list(ctx.scope.inside().lower(ctx.node.graph("then_branch" if condition.all() else "else_branch")))
    conditional = ctx.network.add_if_conditional()
    conditional.name = ctx.name
    ctx.named(conditional.set_condition(ctx.as_scalar(ctx.tensor(0))), "condition")

    entered: dict[str, Tensor] = {}

    def enter(tensor: Tensor) -> Tensor:
        """Through the conditional, once for both branches."""
        if tensor.name not in entered:
            entered[tensor.name] = ctx.named(conditional.add_input(tensor), "conditional input").get_output(0)
        return entered[tensor.name]

    branches = [ctx.scope.inside(enter).lower(ctx.node.graph(name)) for name in ("then_branch", "else_branch")]
    for then, otherwise in zip(*branches, strict=True):
        if len(then.shape) != len(otherwise.shape):
            raise ctx.refuse("its branches give tensors of different ranks", "make the ranks equal")
    return [
        ctx.named(conditional.add_output(*pair), "conditional output").get_output(0)
        for pair in zip(*branches, strict=True)
    ]


# -- loops ----------------------------------------------------------------------------------------------------


@dataclass
class _Body:
    """A loop and the scope of its body."""

    ctx: LoweringContext
    graph: Graph
    loop: Any = field(init=False)
    scope: Scope = field(init=False)

    def __post_init__(self) -> None:
        self.loop = self.ctx.network.add_loop()
        self.loop.name = self.ctx.name
        self.scope = self.ctx.scope.inside()

    def carry(self, initial: Tensor, value: Value | None = None) -> Any:
        """A recurrence that starts at ``initial``, which the body reads as ``value``."""
        layer = self.ctx.named(self.loop.add_recurrence(initial), "recurrence")
        if value is not None:
            self.scope.bind(value, layer.get_output(0))
        return layer

    def limit(self, tensor: Tensor, kind: str) -> None:
        """End after a count, or while a condition holds."""
        self.ctx.named(self.loop.add_trip_limit(tensor, getattr(self.ctx.trt.TripLimit, kind)), "trip limit")

    def last(self, layer: Any) -> Tensor:
        """What a recurrence holds in the end."""
        kind = self.ctx.trt.LoopOutput.LAST_VALUE
        return self.ctx.named(self.loop.add_loop_output(layer.get_output(0), kind), "loop output").get_output(0)

    def collected(self, tensor: Tensor, count: Tensor, axis: int = 0, backwards: int = 0) -> Tensor:
        """What the body gave in each iteration, along a new axis."""
        kinds = self.ctx.trt.LoopOutput
        kind = kinds.REVERSE if backwards else kinds.CONCATENATE
        layer = self.ctx.named(self.loop.add_loop_output(tensor, kind, axis), "loop output")
        layer.set_input(1, count)
        return layer.get_output(0)


def _loop(ctx: LoweringContext) -> list[Result]:
    graph = ctx.node.graph("body")
    body = _Body(ctx, graph)
    number, going, *carried = graph.inputs
    endless = _is_endless(graph)
    count = _count(ctx, endless)
    states = [body.carry(ctx.tensor(index), value) for index, value in enumerate(carried, start=2)]
    if len(graph.outputs) > 1 + len(states) and (count is None or not endless):
        raise ctx.refuse("it collects results over a number of iterations that is open", "give the loop a fixed count")
    if count is not None:
        body.limit(count, "COUNT")
    condition = _while(ctx, body, going, endless)
    if condition is None and count is None:
        raise ctx.refuse("it never ends", "give the loop a count or a condition")
    at = body.carry(ctx.scalar(0, ctx.index_type), number)
    proceed, *results = body.scope.lower(graph)
    at.set_input(1, ctx.elementwise("SUM", at.get_output(0), ctx.scalar(1, ctx.index_type)))
    if condition is not None:
        condition.set_input(1, ctx.as_scalar(proceed))
    return _finished(body, states, results, count)


def _is_endless(graph: Graph) -> bool:
    """Whether the condition, once true, stays true: the body hands it on, or gives true always."""
    value = graph.outputs[0]
    while (node := producer(value, "Identity")) is not None and node.inputs[0] is not None:
        value = node.inputs[0]
    known = constant(value)
    return value is graph.inputs[1] or (known is not None and bool(known.all()))


def _count(ctx: LoweringContext, endless: bool) -> Tensor | None:
    """The number of iterations at most; none where the condition is false at first and never computed again."""
    if not ctx.node.has(0):
        return None
    count = ctx.as_scalar(ctx.as_index(ctx.tensor(0)))
    first = ctx.node.constant(1)
    if not endless or not ctx.node.has(1) or (first is not None and first.all()):
        return count
    return ctx.elementwise("PROD", count, ctx.as_scalar(ctx.as_index(ctx.tensor(1))))


def _while(ctx: LoweringContext, body: _Body, going: Value, endless: bool) -> Any | None:
    """The recurrence of the condition, None where it is true throughout."""
    if endless:
        body.scope.bind(going, np.array(True))
        return None
    first = ctx.as_scalar(ctx.tensor(1)) if ctx.node.has(1) else ctx.scalar(1, ctx.trt.DataType.BOOL)
    layer = body.carry(first, going)
    body.limit(layer.get_output(0), "WHILE")
    return layer


def _finished(body: _Body, states: Sequence[Any], results: Sequence[Tensor], count: Tensor | None) -> list[Result]:
    for layer, after in zip(states, results, strict=False):
        layer.set_input(1, after)
    collected = [body.collected(tensor, count) for tensor in results[len(states) :]]
    return [*(body.last(layer) for layer in states), *collected]


def _scan(ctx: LoweringContext) -> list[Result]:
    if ctx.node.opset < 9:
        raise ctx.refuse("Scan of operator set 8 has a batch axis", "convert the model to a newer operator set")
    graph, scanned = ctx.node.graph("body"), ctx.node.integer("num_scan_inputs", 1)
    body = _Body(ctx, graph)
    first = len(graph.inputs) - scanned
    states = [body.carry(ctx.tensor(index), graph.inputs[index]) for index in range(first)]
    axes, directions = (
        ctx.node.integers_or_zeros("scan_input_axes", scanned),
        ctx.node.integers_or_zeros("scan_input_directions", scanned),
    )
    length = ctx.sizes(ctx.tensor(first))[normalize_axis(axes[0], ctx.rank(first))]
    count = ctx.scalar(length, ctx.index_type) if isinstance(length, int) else ctx.as_scalar(length)
    body.limit(count, "COUNT")
    for index, axis, backwards in zip(range(first, len(graph.inputs)), axes, directions, strict=True):
        tensor = ctx.tensor(index)
        place = normalize_axis(axis, len(tensor.shape))
        iterator = ctx.named(body.loop.add_iterator(tensor, place, bool(backwards)), "iterator")
        body.scope.bind(graph.inputs[index], iterator.get_output(0))
    results = body.scope.lower(graph)
    for layer, after in zip(states, results, strict=False):
        layer.set_input(1, after)
    collected = results[first:]
    places, orders = (
        ctx.node.integers_or_zeros("scan_output_axes", len(collected)),
        ctx.node.integers_or_zeros("scan_output_directions", len(collected)),
    )
    return [
        *(body.last(layer) for layer in states),
        *(
            body.collected(tensor, count, normalize_axis(axis, len(tensor.shape) + 1), backwards)
            for tensor, axis, backwards in zip(collected, places, orders, strict=True)
        ),
    ]
