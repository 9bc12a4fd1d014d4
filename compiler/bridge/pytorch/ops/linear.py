"""Convolutions and matrix products."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from graphpress.bridge.pytorch.call import Call, Kernel, Translation
from graphpress.bridge.pytorch.ops.windows import Window, even, pad

_CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)


def entries() -> dict[str, Translation]:
    """The operators of this family."""
    return {"Conv": _conv, "Gemm": _gemm, "MatMul": lambda call: torch.matmul}


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, window: Window, groups: int) -> Tensor:
    """A convolution of any number (one to three) of spatial axes."""
    rank = weight.dim() - 2
    pads = window.padding(x.shape[2:], weight.shape[2:])
    padding = even(pads)
    if padding is None:
        x, padding = pad(x, pads), (0,) * rank
    function = _CONVOLUTIONS[rank - 1]
    result: Tensor = function(x, weight, bias, window.stride(rank), padding, window.dilation(rank), groups)
    return result


def _conv(call: Call) -> Kernel:
    window, groups = Window.of(call), call.integer("group", 1)

    def kernel(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return convolve(x, weight, bias, window, groups)

    return kernel


def _gemm(call: Call) -> Kernel:
    alpha, beta = call.number("alpha", 1.0), call.number("beta", 1.0)
    flip_a, flip_b = call.integer("transA", 0), call.integer("transB", 0)

    def kernel(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        a, b = a.mT if flip_a else a, b.mT if flip_b else b
        if c is None:
            return a @ b if alpha == 1 else alpha * (a @ b)
        return torch.addmm(c, a, b, beta=beta, alpha=alpha)

    return kernel
