"""Operators of one operand, element by element, casts, and Dropout, which is the identity here.

Torch computes little on unsigned integers of more than eight bits: they are computed with as 64-bit ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from graphpress.ir import DataType, Value
from graphpress.ir.encoding import integer_bounds
from graphpress.torch_bridge.context import Kernel, Translation, TranslationContext
from graphpress.torch_bridge.tensors import torch_dtype

_FUNCTIONS: dict[str, Kernel] = {
    "Abs": torch.abs, "Acos": torch.acos, "Acosh": torch.acosh, "Asin": torch.asin, "Asinh": torch.asinh,
    "Atan": torch.atan, "Atanh": torch.atanh, "BitwiseNot": torch.bitwise_not, "Ceil": torch.ceil, "Cos": torch.cos,
    "Cosh": torch.cosh, "Erf": torch.erf, "Exp": torch.exp, "Floor": torch.floor, "HardSwish": functional.hardswish,
    "Identity": lambda x: x, "IsNaN": torch.isnan, "Log": torch.log, "Mish": functional.mish, "Neg": torch.neg,
    "Not": torch.logical_not, "Reciprocal": torch.reciprocal, "Relu": torch.relu, "Round": torch.round,
    "Sigmoid": torch.sigmoid, "Sign": torch.sign, "Sin": torch.sin, "Sinh": torch.sinh, "Softplus": functional.softplus,
    "Softsign": functional.softsign, "Sqrt": torch.sqrt, "Tan": torch.tan, "Tanh": torch.tanh,
}  # fmt: skip
_WIDE = {DataType.UINT16: torch.uint16, DataType.UINT32: torch.uint32, DataType.UINT64: torch.uint64}


def entries() -> dict[str, Translation]:
    """The operators of this family."""
    return {
        **{name: of_any_type(always(function)) for name, function in _FUNCTIONS.items()},
        "Cast": _cast,
        "CastLike": _cast_like,
        "Celu": lambda ctx: _with(functional.celu, alpha=ctx.node.number("alpha", 1.0)),
        "Dropout": _dropout,
        "Elu": lambda ctx: _with(functional.elu, alpha=ctx.node.number("alpha", 1.0)),
        "Gelu": lambda ctx: _with(functional.gelu, approximate=ctx.node.text("approximate", "none")),
        "HardSigmoid": _hard_sigmoid,
        "IsInf": _is_inf,
        "LeakyRelu": lambda ctx: _with(functional.leaky_relu, negative_slope=ctx.node.number("alpha", 0.01)),
        "Selu": _selu,
        "Shrink": _shrink,
        "Swish": _swish,
        "ThresholdedRelu": lambda ctx: _with(functional.threshold, threshold=ctx.node.number("alpha", 1.0), value=0.0),
        "com.microsoft:Gelu": lambda ctx: functional.gelu,
    }


def _with(function: Callable[..., Tensor], **arguments: Any) -> Kernel:
    return lambda x: function(x, **arguments)


def of_any_type(translation: Translation) -> Translation:
    """The same for every type, wide unsigned integers included."""

    def translate(ctx: TranslationContext) -> Kernel:
        kernel = translation(ctx)
        for value in ctx.node.inputs:
            if value is not None and value.dtype in _WIDE:
                return _as_signed(kernel, _WIDE[value.dtype])
        return kernel

    return translate


def _as_signed(kernel: Kernel, dtype: torch.dtype) -> Kernel:
    def widened(*operands: Tensor | None) -> Tensor:
        signed = [
            operand.to(torch.int64) if operand is not None and operand.dtype == dtype else operand
            for operand in operands
        ]
        result: Tensor = kernel(*signed)
        return result.to(dtype) if result.dtype == torch.int64 else result

    return widened


def always(function: Kernel) -> Translation:
    """The translation that is the same function for every node."""
    return lambda ctx: function


def _cast(ctx: TranslationContext) -> Kernel:
    return _casting(ctx, DataType(ctx.node.integer("to", 1)), ctx.node.input(0))


def _cast_like(ctx: TranslationContext) -> Kernel:
    like = ctx.node.input(1)
    if like is not None and like.dtype is not None:
        cast = _casting(ctx, like.dtype, ctx.node.input(0))
        return lambda x, target: cast(x)
    return lambda x, target: x.to(target.dtype)


def _casting(ctx: TranslationContext, to: DataType, source: Value | None) -> Kernel:
    ctx.require(to is not DataType.STRING, "a cast to strings")
    ctx.require(source is None or source.dtype is not DataType.STRING, "a cast of strings")
    dtype = torch_dtype(to)
    if to.bitwidth < 8:
        low, high = integer_bounds(to.name.lower())
        return lambda x: ((x.to(torch.int64) - low) % (high - low + 1) + low).to(dtype)
    if dtype.itemsize > 1 or not dtype.is_floating_point:
        return lambda x: x.to(dtype)
    ctx.require(ctx.node.flag("saturate", True), "a cast to short floats that does not saturate")
    limit = torch.finfo(dtype).max
    return lambda x: x.to(torch.promote_types(x.dtype, torch.float32)).clamp(-limit, limit).to(dtype)


def _selu(ctx: TranslationContext) -> Kernel:
    alpha, gamma = ctx.node.number("alpha", 1.6732632), ctx.node.number("gamma", 1.0507010)
    return lambda x: gamma * functional.elu(x, alpha)


def _hard_sigmoid(ctx: TranslationContext) -> Kernel:
    alpha, beta = ctx.node.number("alpha", 0.2), ctx.node.number("beta", 0.5)
    return lambda x: (alpha * x + beta).clamp(0, 1)


def _shrink(ctx: TranslationContext) -> Kernel:
    bias, limit = ctx.node.number("bias", 0.0), ctx.node.number("lambd", 0.5)

    def kernel(x: Tensor) -> Tensor:
        inside = torch.zeros_like(x)
        return torch.where(x < -limit, x + bias, torch.where(x > limit, x - bias, inside)).to(x.dtype)

    return kernel


def _swish(ctx: TranslationContext) -> Kernel:
    alpha = ctx.node.number("alpha", 1.0)
    return functional.silu if alpha == 1 else lambda x: x * torch.sigmoid(alpha * x)


def _is_inf(ctx: TranslationContext) -> Kernel:
    positive, negative = ctx.node.integer("detect_positive", 1), ctx.node.integer("detect_negative", 1)
    if positive and negative:
        return torch.isinf
    return torch.isposinf if positive else (torch.isneginf if negative else lambda x: torch.zeros_like(x).bool())


def _dropout(ctx: TranslationContext) -> Kernel:
    """Nothing is dropped, whatever the mode: training recovers the model that infers."""
    if ctx.node.output_count < 2:
        return lambda x, *settings: x
    mask = torch.bool if ctx.node.opset >= 10 else None
    return lambda x, *settings: (x, torch.ones_like(x, dtype=mask))
