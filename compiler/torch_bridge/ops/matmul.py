"""Matrix products, also those on integers, and Einsum.

Integer products are computed in double precision, which holds every sum of theirs exactly; they pass no gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

from graphpress.torch_bridge.context import Kernel, Translation, TranslationContext
from graphpress.torch_bridge.ops.quantized import along, centered, requantized


def entries() -> dict[str, Translation]:
    """The operators of this family."""
    return {
        "Einsum": _einsum,
        "Gemm": _gemm,
        "MatMul": _matmul,
        "MatMulInteger": _matmul_integer,
        "QLinearMatMul": _qlinear_matmul,
    }


def _gemm(ctx: TranslationContext) -> Kernel:
    alpha, beta = ctx.node.number("alpha", 1.0), ctx.node.number("beta", 1.0)
    flip_a, flip_b = ctx.node.integer("transA", 0), ctx.node.integer("transB", 0)

    def kernel(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        a, b = a.mT if flip_a else a, b.mT if flip_b else b
        if c is None:
            return a @ b if alpha == 1 else alpha * (a @ b)
        if a.is_floating_point():
            return torch.addmm(c, a, b, beta=beta, alpha=alpha)
        return (alpha * (a @ b) + beta * c).to(a.dtype)

    return kernel


def _matmul(ctx: TranslationContext) -> Kernel:
    return torch.matmul


def _einsum(ctx: TranslationContext) -> Kernel:
    equation = ctx.node.text("equation", "").replace(" ", "")
    return lambda *operands: torch.einsum(equation, *operands)


def _matmul_integer(ctx: TranslationContext) -> Kernel:
    def kernel(a: Tensor, b: Tensor, a_zero: Tensor | None = None, b_zero: Tensor | None = None) -> Tensor:
        return (centered(a, a_zero, -2) @ centered(b, b_zero, -1)).to(torch.int32)

    return kernel


def _qlinear_matmul(ctx: TranslationContext) -> Kernel:
    def kernel(
        a: Tensor, a_scale: Tensor, a_zero: Tensor, b: Tensor, b_scale: Tensor, b_zero: Tensor,
        y_scale: Tensor, y_zero: Tensor,
    ) -> Tensor:  # fmt: skip
        sums = centered(a, a_zero, -2) @ centered(b, b_zero, -1)
        scales = along(a_scale, a, -2).double() * along(b_scale, b, -1).double()
        return requantized(sums * scales / y_scale.double(), y_zero)

    return kernel
