"""Control flow: If, Loop and Scan run the steps of their subgraphs, which are differentiable as any others are.

No gradient passes through a condition or a trip count.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any

import torch
from torch import Tensor

from graphpress.ir import Value, dims_of
from graphpress.torch_bridge.context import Kernel, Translation, TranslationContext
from graphpress.torch_bridge.tensors import torch_dtype

_FIRST_WITHOUT_BATCH = 9


def entries() -> dict[str, Translation]:
    """The operators of this family."""
    return {"If": _if, "Loop": _loop, "Scan": _scan}


def _if(ctx: TranslationContext) -> Kernel:
    then, otherwise = ctx.bodies["then_branch"], ctx.bodies["else_branch"]

    def run(condition: Tensor, *captured: Any) -> tuple[Any, ...]:
        return tuple((then if bool(condition) else otherwise)((), captured))

    return run


def _loop(ctx: TranslationContext) -> Kernel:
    """The body takes round, condition and carried values; it gives the condition, the carried and the collected."""
    body, given = ctx.bodies["body"], len(ctx.node.inputs)
    states = given - 2
    collected = ctx.node.graph("body").outputs[1 + states :]

    def run(*operands: Any) -> tuple[Any, ...]:
        limit, condition, *carried = operands[:given]
        alive = True if condition is None else bool(condition)
        rounds: Iterable[int] = count() if limit is None else range(int(limit))
        made: list[Sequence[Any]] = []
        for index in rounds:
            if not alive:
                break
            results = body((torch.tensor(index), torch.tensor(alive), *carried), operands[given:])
            alive, carried = bool(results[0]), results[1 : 1 + states]
            made.append(results[1 + states :])
        stacked = (_stack([step[index] for step in made], value, 0) for index, value in enumerate(collected))
        return (*carried, *stacked)

    return run


def _scan(ctx: TranslationContext) -> Kernel:
    """The body takes the carried values and one slice of each sequence; it gives the carried and one slice each."""
    ctx.require(ctx.node.opset >= _FIRST_WITHOUT_BATCH, "its batch axis went with operator set 9")
    body, given, sequences = ctx.bodies["body"], len(ctx.node.inputs), ctx.node.integer("num_scan_inputs", 1)
    states = given - sequences
    collected = ctx.node.graph("body").outputs[states:]
    axes_in, axes_out = (
        ctx.node.integers_or_zeros("scan_input_axes", sequences),
        ctx.node.integers_or_zeros("scan_output_axes", len(collected)),
    )
    back_in = ctx.node.integers_or_zeros("scan_input_directions", sequences)
    back_out = ctx.node.integers_or_zeros("scan_output_directions", len(collected))

    def run(*operands: Any) -> tuple[Any, ...]:
        carried: Sequence[Any] = operands[:states]
        slices = [_unstack(*each) for each in zip(operands[states:given], axes_in, back_in, strict=True)]
        made: list[Sequence[Any]] = []
        for seen in zip(*slices, strict=True):
            results = body((*carried, *seen), operands[given:])
            carried = results[:states]
            made.append(results[states:])
        stacked = []
        for index, value in enumerate(collected):
            parts = [step[index] for step in made]
            stacked.append(_stack(parts[::-1] if back_out[index] else parts, value, axes_out[index]))
        return (*carried, *stacked)

    return run


def _unstack(data: Tensor, axis: int, backward: int) -> tuple[Tensor, ...]:
    parts = data.unbind(axis)
    return parts[::-1] if backward else parts


def _stack(parts: Sequence[Tensor], value: Value, axis: int) -> Tensor:
    """Slices put together along a new axis; without any, an empty tensor as far as its shape is known."""
    if parts:
        return torch.stack(list(parts), axis)
    shape = [dim or 0 for dim in dims_of(value) or ()]
    shape.insert(axis % (len(shape) + 1), 0)
    return torch.zeros(shape, dtype=None if value.dtype is None else torch_dtype(value.dtype))
