"""Elementwise operators of several operands: arithmetic, comparison, logic, choice.

Torch computes little on unsigned integers of more than eight bits: they are computed with as 64-bit ones.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor

from graphpress.torch_bridge.context import Kernel, Translation, TranslationContext
from graphpress.torch_bridge.ops.unary import always, of_any_type

_BINARY: dict[str, Kernel] = {
    "Add": torch.add, "And": torch.logical_and, "BitwiseAnd": torch.bitwise_and, "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor, "Equal": torch.eq, "Greater": torch.gt, "GreaterOrEqual": torch.ge,
    "Less": torch.lt, "LessOrEqual": torch.le, "Mul": torch.mul, "Or": torch.logical_or, "Sub": torch.sub,
    "Xor": torch.logical_xor,
}  # fmt: skip


_FIRST_BROADCASTING = 7
"""Before this operator set, broadcasting was asked for with attributes."""


def entries() -> dict[str, Translation]:
    """The operators of this family."""
    return {
        **{name: of_any_type(_binary(function)) for name, function in _BINARY.items()},
        "BitShift": of_any_type(_bit_shift),
        "Clip": of_any_type(_clip),
        "Div": of_any_type(_binary(_divide)),
        "Max": of_any_type(_variadic(torch.maximum)),
        "Mean": lambda ctx: lambda *operands: reduce(torch.add, operands) / len(operands),
        "Min": of_any_type(_variadic(torch.minimum)),
        "Mod": of_any_type(lambda ctx: torch.fmod if ctx.node.integer("fmod", 0) else torch.remainder),
        "PRelu": _prelu,
        "Pow": of_any_type(_pow),
        "Sum": of_any_type(_variadic(torch.add)),
        "SwiGLU": _swiglu,
        "Where": of_any_type(always(torch.where)),
    }


# -- arithmetic -----------------------------------------------------------------------------------------------


def _binary(function: Kernel) -> Translation:
    def translate(ctx: TranslationContext) -> Kernel:
        _require_broadcasting(ctx)
        return function

    return translate


def _require_broadcasting(ctx: TranslationContext) -> None:
    ctx.require(
        ctx.node.opset >= _FIRST_BROADCASTING or not ctx.node.integer("broadcast", 0),
        f"broadcasting by attributes went with operator set {_FIRST_BROADCASTING}",
    )


def _divide(a: Tensor, b: Tensor) -> Tensor:
    return a / b if a.is_floating_point() or a.is_complex() else torch.div(a, b, rounding_mode="trunc")


def _variadic(function: Callable[[Tensor, Tensor], Tensor]) -> Translation:
    return lambda ctx: lambda *operands: reduce(function, operands)


def _pow(ctx: TranslationContext) -> Kernel:
    """The result has the type of the base."""
    known = ctx.node.constant(1)
    if known is not None and known.size == 1:
        exponent, rank = known.reshape(-1)[0].item(), known.ndim
        return lambda x, y: (x.pow(exponent) if x.dim() >= rank else torch.pow(x, y)).to(x.dtype)
    return lambda x, y: torch.pow(x, y).to(x.dtype)


def _bit_shift(ctx: TranslationContext) -> Kernel:
    return torch.bitwise_left_shift if ctx.node.text("direction", "") == "LEFT" else torch.bitwise_right_shift


def _clip(ctx: TranslationContext) -> Kernel:
    """Bounds are attributes before operator set 11. Where they cross, the upper one wins."""
    given = [ctx.node.scalar(1, "min"), ctx.node.scalar(2, "max")]
    if all(bound is not None or not ctx.node.has(index) for index, bound in enumerate(given, 1)):
        low, high = given
        if low is None and high is None:
            return lambda x, *bounds: x
        return lambda x, *bounds: torch.clamp(x, low, high)

    def kernel(x: Tensor, lower: Tensor | None = None, upper: Tensor | None = None) -> Tensor:
        x = x if lower is None else torch.maximum(x, lower)
        return x if upper is None else torch.minimum(x, upper)

    return kernel


def _prelu(ctx: TranslationContext) -> Kernel:
    """One slope a channel before operator set 7, else slopes that broadcast."""
    by_channel = ctx.node.opset < _FIRST_BROADCASTING

    def kernel(x: Tensor, slope: Tensor) -> Tensor:
        if by_channel and slope.dim() == 1 and x.dim() > 1:
            slope = slope.reshape(-1, *(1,) * (x.dim() - 2))
        return torch.where(x >= 0, x, slope * x)

    return kernel


def _swiglu(ctx: TranslationContext) -> Kernel:
    alpha = ctx.node.number("alpha", 1.0)
    return lambda gate, x: gate * torch.sigmoid(alpha * gate) * x
