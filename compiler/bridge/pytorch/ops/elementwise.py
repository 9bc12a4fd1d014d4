"""Elementwise operators, casts, and what is the identity here: Dropout, and BatchNormalization up to a factor.

Torch computes little on unsigned integers of more than eight bits: they are computed with as 64-bit ones.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from graphpress.bridge.pytorch.call import Call, Kernel, Translation
from graphpress.bridge.pytorch.tensors import torch_dtype
from graphpress.ir import DataType, Value, input_of
from graphpress.ir.encoding import integer_bounds

_FUNCTIONS: dict[str, Kernel] = {
    "Abs": torch.abs, "Acos": torch.acos, "Acosh": torch.acosh, "Asin": torch.asin, "Asinh": torch.asinh,
    "Atan": torch.atan, "Atanh": torch.atanh, "BitwiseNot": torch.bitwise_not, "Ceil": torch.ceil, "Cos": torch.cos,
    "Cosh": torch.cosh, "Erf": torch.erf, "Exp": torch.exp, "Floor": torch.floor, "HardSwish": functional.hardswish,
    "Identity": lambda x: x, "IsNaN": torch.isnan, "Log": torch.log, "Mish": functional.mish, "Neg": torch.neg,
    "Not": torch.logical_not, "Reciprocal": torch.reciprocal, "Relu": torch.relu, "Round": torch.round,
    "Sigmoid": torch.sigmoid, "Sign": torch.sign, "Sin": torch.sin, "Sinh": torch.sinh, "Softplus": functional.softplus,
    "Softsign": functional.softsign, "Sqrt": torch.sqrt, "Tan": torch.tan, "Tanh": torch.tanh, "Where": torch.where,
}  # fmt: skip

_BINARY: dict[str, Kernel] = {
    "Add": torch.add, "And": torch.logical_and, "BitwiseAnd": torch.bitwise_and, "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor, "Equal": torch.eq, "Greater": torch.gt, "GreaterOrEqual": torch.ge,
    "Less": torch.lt, "LessOrEqual": torch.le, "Mul": torch.mul, "Or": torch.logical_or, "Sub": torch.sub,
    "Xor": torch.logical_xor,
}  # fmt: skip

_WIDE = {DataType.UINT16: torch.uint16, DataType.UINT32: torch.uint32, DataType.UINT64: torch.uint64}

_FIRST_BROADCASTING = 7
"""Before this operator set, broadcasting was asked for with attributes."""


def entries() -> dict[str, Translation]:
    """The operators of this family."""
    return {
        **{name: _of(_constantly(function)) for name, function in _FUNCTIONS.items()},
        **{name: _of(_binary(function)) for name, function in _BINARY.items()},
        "BatchNormalization": _batch_norm,
        "BitShift": _of(_bit_shift),
        "Cast": _cast,
        "CastLike": _cast_like,
        "Celu": lambda call: _with(functional.celu, alpha=call.number("alpha", 1.0)),
        "Clip": _of(_clip),
        "Div": _of(_binary(_divide)),
        "Dropout": _dropout,
        "Elu": lambda call: _with(functional.elu, alpha=call.number("alpha", 1.0)),
        "Gelu": lambda call: _with(functional.gelu, approximate=call.text("approximate", "none")),
        "HardSigmoid": _hard_sigmoid,
        "IsInf": _is_inf,
        "LeakyRelu": lambda call: _with(functional.leaky_relu, negative_slope=call.number("alpha", 0.01)),
        "Max": _of(_variadic(torch.maximum)),
        "Mean": lambda call: lambda *operands: reduce(torch.add, operands) / len(operands),
        "Min": _of(_variadic(torch.minimum)),
        "Mod": _of(lambda call: torch.fmod if call.integer("fmod", 0) else torch.remainder),
        "PRelu": _prelu,
        "Pow": _of(_pow),
        "Selu": _selu,
        "Shrink": _shrink,
        "Sum": _of(_variadic(torch.add)),
        "SwiGLU": _swiglu,
        "Swish": _swish,
        "com.microsoft:Gelu": lambda call: functional.gelu,
        "ThresholdedRelu": lambda call: _with(functional.threshold, threshold=call.number("alpha", 1.0), value=0.0),
    }


def _with(function: Callable[..., Tensor], **arguments: Any) -> Kernel:
    return lambda x: function(x, **arguments)


# -- types ----------------------------------------------------------------------------------------------------


def _of(translation: Translation) -> Translation:
    """The same for every type, wide unsigned integers included."""

    def translate(call: Call) -> Kernel:
        kernel = translation(call)
        for value in call.node.inputs:
            if value is not None and value.dtype in _WIDE:
                return _as_signed(kernel, _WIDE[value.dtype])
        return kernel

    return translate


def _as_signed(kernel: Kernel, dtype: torch.dtype) -> Kernel:
    def widened(*operands: Tensor | None) -> Tensor:
        signed = [one.to(torch.int64) if one is not None and one.dtype == dtype else one for one in operands]
        result: Tensor = kernel(*signed)
        return result.to(dtype) if result.dtype == torch.int64 else result

    return widened


def _constantly(function: Kernel) -> Translation:
    return lambda call: function


def _cast(call: Call) -> Kernel:
    return _casting(call, DataType(call.integer("to", 1)), input_of(call.node, 0))


def _cast_like(call: Call) -> Kernel:
    like = input_of(call.node, 1)
    if like is not None and like.dtype is not None:
        cast = _casting(call, like.dtype, input_of(call.node, 0))
        return lambda x, target: cast(x)
    return lambda x, target: x.to(target.dtype)


def _casting(call: Call, to: DataType, source: Value | None) -> Kernel:
    call.require(to is not DataType.STRING, "a cast to strings")
    call.require(source is None or source.dtype is not DataType.STRING, "a cast of strings")
    dtype = torch_dtype(to)
    if to.bitwidth < 8:
        low, high = integer_bounds(to.name.lower())
        return lambda x: ((x.to(torch.int64) - low) % (high - low + 1) + low).to(dtype)
    if dtype.itemsize > 1 or not dtype.is_floating_point:
        return lambda x: x.to(dtype)
    call.require(bool(call.integer("saturate", 1)), "a cast to short floats that does not saturate")
    limit = torch.finfo(dtype).max
    return lambda x: x.to(torch.promote_types(x.dtype, torch.float32)).clamp(-limit, limit).to(dtype)


# -- arithmetic -----------------------------------------------------------------------------------------------


def _binary(function: Kernel) -> Translation:
    def translate(call: Call) -> Kernel:
        _require_broadcasting(call)
        return function

    return translate


def _require_broadcasting(call: Call) -> None:
    call.require(
        call.opset >= _FIRST_BROADCASTING or not call.integer("broadcast", 0),
        f"broadcasting by attributes went with operator set {_FIRST_BROADCASTING}",
    )


def _divide(a: Tensor, b: Tensor) -> Tensor:
    return a / b if a.is_floating_point() or a.is_complex() else torch.div(a, b, rounding_mode="trunc")


def _variadic(function: Callable[[Tensor, Tensor], Tensor]) -> Translation:
    return lambda call: lambda *operands: reduce(function, operands)


def _pow(call: Call) -> Kernel:
    """The result has the type of the base."""
    known = call.constant(1)
    if known is not None and known.size == 1:
        exponent, rank = known.reshape(-1)[0].item(), known.ndim
        return lambda x, y: (x.pow(exponent) if x.dim() >= rank else torch.pow(x, y)).to(x.dtype)
    return lambda x, y: torch.pow(x, y).to(x.dtype)


def _bit_shift(call: Call) -> Kernel:
    return torch.bitwise_left_shift if call.text("direction", "") == "LEFT" else torch.bitwise_right_shift


def _clip(call: Call) -> Kernel:
    """Bounds are attributes before operator set 11. Where they cross, the upper one wins."""
    given = [call.scalar(1, "min"), call.scalar(2, "max")]
    if all(bound is not None or not call.has(index) for index, bound in enumerate(given, 1)):
        low, high = given
        if low is None and high is None:
            return lambda x, *bounds: x
        return lambda x, *bounds: torch.clamp(x, low, high)

    def kernel(x: Tensor, lower: Tensor | None = None, upper: Tensor | None = None) -> Tensor:
        x = x if lower is None else torch.maximum(x, lower)
        return x if upper is None else torch.minimum(x, upper)

    return kernel


# -- activations ----------------------------------------------------------------------------------------------


def _prelu(call: Call) -> Kernel:
    """One slope a channel before operator set 7, else slopes that broadcast."""
    by_channel = call.opset < _FIRST_BROADCASTING

    def kernel(x: Tensor, slope: Tensor) -> Tensor:
        if by_channel and slope.dim() == 1 and x.dim() > 1:
            slope = slope.reshape(-1, *(1,) * (x.dim() - 2))
        return torch.where(x >= 0, x, slope * x)

    return kernel


def _selu(call: Call) -> Kernel:
    alpha, gamma = call.number("alpha", 1.6732632), call.number("gamma", 1.0507010)
    return lambda x: gamma * functional.elu(x, alpha)


def _hard_sigmoid(call: Call) -> Kernel:
    alpha, beta = call.number("alpha", 0.2), call.number("beta", 0.5)
    return lambda x: (alpha * x + beta).clamp(0, 1)


def _shrink(call: Call) -> Kernel:
    bias, limit = call.number("bias", 0.0), call.number("lambd", 0.5)

    def kernel(x: Tensor) -> Tensor:
        inside = torch.zeros_like(x)
        return torch.where(x < -limit, x + bias, torch.where(x > limit, x - bias, inside)).to(x.dtype)

    return kernel


def _swish(call: Call) -> Kernel:
    alpha = call.number("alpha", 1.0)
    return functional.silu if alpha == 1 else lambda x: x * torch.sigmoid(alpha * x)


def _swiglu(call: Call) -> Kernel:
    alpha = call.number("alpha", 1.0)
    return lambda gate, x: gate * torch.sigmoid(alpha * gate) * x


def _is_inf(call: Call) -> Kernel:
    positive, negative = call.integer("detect_positive", 1), call.integer("detect_negative", 1)
    if positive and negative:
        return torch.isinf
    return torch.isposinf if positive else (torch.isneginf if negative else lambda x: torch.zeros_like(x).bool())


# -- inference semantics --------------------------------------------------------------------------------------


def _dropout(call: Call) -> Kernel:
    """Nothing is dropped, whatever the mode: training recovers the model that infers."""
    if call.outputs < 2:
        return lambda x, *settings: x
    mask = torch.bool if call.opset >= 10 else None
    return lambda x, *settings: (x, torch.ones_like(x, dtype=mask))


def _batch_norm(call: Call) -> Kernel:
    """Normalises by the stored statistics, or (attribute ``training_mode``) by those of the batch."""
    call.require(call.integer("spatial", 1) == 1, "statistics per position went with operator set 9")
    epsilon, momentum = call.number("epsilon", 1e-5), call.number("momentum", 0.9)
    if call.integer("training_mode", 0):
        return lambda *operands: _by_batch(*operands, epsilon=epsilon, momentum=momentum)

    def kernel(x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        if mean.requires_grad or variance.requires_grad:
            shape = (-1, *(1,) * (x.dim() - 2))
            factor = scale * torch.rsqrt(variance + epsilon)
            return ((x - mean.reshape(shape)) * factor.reshape(shape) + bias.reshape(shape)).to(x.dtype)
        if scale.dtype == x.dtype == mean.dtype:
            return functional.batch_norm(x, mean, variance, scale, bias, eps=epsilon)
        statistics, affine = (mean.float(), variance.float()), (scale.float(), bias.float())
        return functional.batch_norm(x.float(), *statistics, *affine, eps=epsilon).to(x.dtype)

    return kernel


def _by_batch(
    x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, *, epsilon: float, momentum: float
) -> tuple[Tensor, Tensor, Tensor]:
    axes = [axis for axis in range(x.dim()) if axis != 1]
    spread, centre = torch.var_mean(x, axes, correction=0)
    y = functional.batch_norm(x, None, None, scale, bias, True, eps=epsilon)
    blended = (momentum * old + (1 - momentum) * new for old, new in ((mean, centre), (variance, spread)))
    return (y, *blended)  # type: ignore[return-value]
