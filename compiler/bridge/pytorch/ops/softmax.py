"""The Softmax family."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from graphpress.bridge.pytorch.context import Kernel, Translation, TranslationContext


def entries() -> dict[str, Translation]:
    """The operators of this family."""
    return {
        "Hardmax": lambda ctx: _along(ctx, _hardmax),
        "LogSoftmax": lambda ctx: _along(ctx, torch.log_softmax),
        "Softmax": lambda ctx: _along(ctx, torch.softmax),
    }


_PER_AXIS_SINCE = 13
"""Before this operator set, Softmax took all axes from ``axis`` on as one."""


def _along(ctx: TranslationContext, function: Callable[[Tensor, int], Tensor]) -> Kernel:
    """Along one axis, or in older operator sets along all from ``axis`` on, taken as one."""
    if ctx.node.opset >= _PER_AXIS_SINCE:
        axis = ctx.node.integer("axis", -1)
        return lambda x: function(x, axis)
    first = ctx.node.integer("axis", 1)

    def kernel(x: Tensor) -> Tensor:
        cut = first if first >= 0 else first + x.dim()
        if cut == x.dim() - 1:
            return function(x, -1)
        return function(x.reshape(math.prod(x.shape[:cut]), -1), 1).reshape(x.shape)

    return kernel


def _hardmax(x: Tensor, axis: int) -> Tensor:
    """One where the first of the largest values is, zero elsewhere."""
    return torch.zeros_like(x).scatter(axis, x.argmax(axis, keepdim=True), 1)
