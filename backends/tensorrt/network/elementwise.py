"""Operators of several operands, element by element: arithmetic, comparison, logic, choice.

What TensorRT has no layer for is written in those it has:

    a ≥ b           a > b or a = b                      (false for NaN, as it must be)
    mean(a, …)      (a + …) / n
    a mod b         a − b·⌊a/b⌋ of integers; with fmod=1 the quotient is cut instead
    SwiGLU(a, b)    a · sigmoid(α·a) · b

Operands have one type, as ONNX requires; the one exception is the exponent of Pow, which is cast to the type of the
base.
Refused: the other bitwise operators on integers, fmod of floats (its quotient would be rounded), and 8-bit integers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

from graphpress.backends.tensorrt.network.context import LoweringContext, Rule
from graphpress.backends.tensorrt.network.layers import Tensor
from graphpress.backends.tensorrt.network.types import is_float, is_integer
from graphpress.backends.tensorrt.network.unary import swish
from graphpress.ir import normalize_axis

_BINARY = {
    "Add": "SUM",
    "And": "AND",
    "Div": "DIV",
    "Equal": "EQUAL",
    "Greater": "GREATER",
    "Less": "LESS",
    "Mul": "PROD",
    "Or": "OR",
    "Sub": "SUB",
    "Xor": "XOR",
}
_VARIADIC = {"Max": "MAX", "Min": "MIN", "Sum": "SUM"}


def entries() -> dict[str, Rule]:
    """The rules of this family."""
    return {
        **{name: _binary(operation) for name, operation in _BINARY.items()},
        **{name: _variadic(operation) for name, operation in _VARIADIC.items()},
        "Clip": _clip,
        "GreaterOrEqual": _or_equal("GREATER"),
        "LessOrEqual": _or_equal("LESS"),
        "Mean": _mean,
        "Mod": _mod,
        "PRelu": _prelu,
        "Pow": _pow,
        "SwiGLU": lambda ctx: ctx.elementwise("PROD", swish(ctx, ctx.tensor(0)), ctx.tensor(1)),
        "Where": lambda ctx: ctx.select(ctx.tensor(0), ctx.tensor(1), ctx.tensor(2)),
    }


def _binary(operation: str) -> Rule:
    def rule(ctx: LoweringContext) -> Tensor:
        left, right = _operands(ctx)
        return ctx.elementwise(operation, left, right)

    return rule


def _operands(ctx: LoweringContext) -> tuple[Tensor, Tensor]:
    """The two operands; operator sets before 7 may align the second at an axis instead of at the end."""
    left, right = ctx.tensor(0), ctx.tensor(1)
    if ctx.node.opset < 7 and ctx.node.integer("broadcast", 0):
        behind = len(left.shape) - normalize_axis(ctx.node.integer("axis", -1), len(left.shape)) - len(right.shape)
        if "axis" in ctx.node.attributes and behind > 0:
            rank = len(right.shape)
            right = ctx.unsqueeze(right, range(rank, rank + behind))
    return left, right


def _variadic(operation: str) -> Rule:
    return lambda ctx: _combined(ctx, operation)


def _combined(ctx: LoweringContext, operation: str) -> Tensor:
    combine: Callable[[Tensor, Tensor], Tensor] = lambda left, right: ctx.elementwise(operation, left, right)  # noqa: E731
    tensors = ctx.tensors()
    return reduce(combine, tensors) if len(tensors) > 1 else ctx.out("identity", tensors[0])


def _mean(ctx: LoweringContext) -> Tensor:
    total = _combined(ctx, "SUM")
    return ctx.elementwise("DIV", total, ctx.like(len(ctx.node.inputs), total)) if len(ctx.node.inputs) > 1 else total


def _or_equal(operation: str) -> Rule:
    def rule(ctx: LoweringContext) -> Tensor:
        left, right = ctx.tensor(0), ctx.tensor(1)
        return ctx.elementwise("OR", ctx.elementwise(operation, left, right), ctx.elementwise("EQUAL", left, right))

    return rule


def _mod(ctx: LoweringContext) -> Tensor:
    left, right = ctx.tensor(0), ctx.tensor(1)
    if not is_integer(left.dtype):
        raise ctx.refuse("TensorRT has no remainder of floats that does not round", "cast to integers, or leave it out")
    quotient = ctx.elementwise("DIV" if ctx.node.integer("fmod", 0) else "FLOOR_DIV", left, right)
    return ctx.elementwise("SUB", left, ctx.elementwise("PROD", quotient, right))


def _pow(ctx: LoweringContext) -> Tensor:
    base, exponent = ctx.tensor(0), ctx.tensor(1)
    if is_integer(base.dtype) and is_float(exponent.dtype):
        power = ctx.elementwise("POW", ctx.cast(base, exponent.dtype), exponent)
        return ctx.cast(power, base.dtype)
    return ctx.elementwise("POW", base, ctx.cast(exponent, base.dtype))


def _prelu(ctx: LoweringContext) -> Tensor:
    tensor, slope = ctx.aligned(ctx.tensor(0), ctx.tensor(1))
    if not is_float(tensor.dtype):
        negative = ctx.elementwise("LESS", tensor, ctx.like(0, tensor))
        return ctx.select(negative, ctx.elementwise("PROD", tensor, slope), tensor)
    return ctx.out("parametric_relu", tensor, slope)


def _clip(ctx: LoweringContext) -> Tensor:
    """One activation where both limits are known floats, as layers fuse it; else a maximum and a minimum."""
    tensor = ctx.tensor(0)
    low, high = _limit(ctx, "min", 1), _limit(ctx, "max", 2)
    if isinstance(low, float) and isinstance(high, float) and low <= high and is_float(tensor.dtype):
        return ctx.activation("CLIP", tensor, alpha=low, beta=high)
    for limit, operation in ((low, "MAX"), (high, "MIN")):
        if limit is not None:
            tensor = ctx.elementwise(operation, tensor, ctx.like(limit, tensor) if isinstance(limit, float) else limit)
    return tensor if low is not None or high is not None else ctx.out("identity", tensor)


def _limit(ctx: LoweringContext, name: str, index: int) -> float | Tensor | None:
    if name in ctx.node.attributes:
        return ctx.node.number(name, 0.0)
    array = ctx.node.constant(index)
    if array is not None and array.size == 1 and array.dtype.kind not in "iu":
        return float(array.reshape(-1)[0])
    return ctx.optional(index)
