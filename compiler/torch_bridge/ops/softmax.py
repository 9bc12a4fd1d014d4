"""The Softmax family."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from graphpress.ops.semantics.axes import softmax_axis
from graphpress.torch_bridge.context import Kernel, Translation, TranslationContext


def entries() -> dict[str, Translation]:
    """The operators of this family."""
    return {
        "Hardmax": lambda ctx: _along(ctx, _hardmax),
        "LogSoftmax": lambda ctx: _along(ctx, torch.log_softmax),
        "Softmax": lambda ctx: _along(ctx, torch.softmax),
    }


def _along(ctx: TranslationContext, function: Callable[[Tensor, int], Tensor]) -> Kernel:
    """Along one axis, or in older operator sets along all from ``axis`` on, taken as one."""
    axis, alone = softmax_axis(ctx.node)
    if alone:
        return lambda x: function(x, axis)

    def kernel(x: Tensor) -> Tensor:
        cut = axis if axis >= 0 else axis + x.dim()
        if cut == x.dim() - 1:
            return function(x, -1)
        return function(x.reshape(math.prod(x.shape[:cut]), -1), 1).reshape(x.shape)

    return kernel


def _hardmax(x: Tensor, axis: int) -> Tensor:
    """One where the first of the largest values is, zero elsewhere."""
    return torch.zeros_like(x).scatter(axis, x.argmax(axis, keepdim=True), 1)
