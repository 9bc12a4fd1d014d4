"""Operators of several operands, element by element: arithmetic, comparison, logic, choice.

What TensorRT has no layer for is spelt in those it has:

    a ≥ b           a > b or a = b                      (false for NaN, as it must be)
    not a           −a − 1 of signed integers
    mean(a, …)      (a + …) / n
    a mod b         a − b·⌊a/b⌋ of integers; with fmod=1 the quotient is cut instead
    SwiGLU(a, b)    a · sigmoid(α·a) · b

Operands have one type, as ONNX asks for; the one exception is the exponent of Pow, which is cast to the type of the
base.
Refused: the other bitwise operators on integers, fmod of floats (its quotient would be rounded), and 8-bit integers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

from graphpress.backends.tensorrt.network.call import Call, Rule
from graphpress.backends.tensorrt.network.layers import Tensor
from graphpress.backends.tensorrt.network.types import is_float, is_integer
from graphpress.backends.tensorrt.network.unary import swish

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
        "BitwiseNot": _bitwise_not,
        "Clip": _clip,
        "GreaterOrEqual": _or_equal("GREATER"),
        "LessOrEqual": _or_equal("LESS"),
        "Mean": _mean,
        "Mod": _mod,
        "PRelu": _prelu,
        "Pow": _pow,
        "SwiGLU": lambda call: call.elementwise("PROD", swish(call, call.tensor(0)), call.tensor(1)),
        "Where": lambda call: call.select(call.tensor(0), call.tensor(1), call.tensor(2)),
    }


def _binary(operation: str) -> Rule:
    def rule(call: Call) -> Tensor:
        one, other = _operands(call)
        return call.elementwise(operation, one, other)

    return rule


def _operands(call: Call) -> tuple[Tensor, Tensor]:
    """The two operands; operator sets before 7 may align the second at an axis instead of at the end."""
    one, other = call.tensor(0), call.tensor(1)
    if call.opset < 7 and call.integer("broadcast", 0):
        behind = len(one.shape) - call.from_front(call.integer("axis", -1), len(one.shape)) - len(other.shape)
        if "axis" in call.node.attributes and behind > 0:
            rank = len(other.shape)
            other = call.unsqueeze(other, range(rank, rank + behind))
    return one, other


def _variadic(operation: str) -> Rule:
    return lambda call: _combined(call, operation)


def _combined(call: Call, operation: str) -> Tensor:
    combine: Callable[[Tensor, Tensor], Tensor] = lambda one, other: call.elementwise(operation, one, other)  # noqa: E731
    tensors = call.tensors()
    return reduce(combine, tensors) if len(tensors) > 1 else call.out("identity", tensors[0])


def _mean(call: Call) -> Tensor:
    total = _combined(call, "SUM")
    return call.elementwise("DIV", total, call.like(call.count, total)) if call.count > 1 else total


def _or_equal(operation: str) -> Rule:
    def rule(call: Call) -> Tensor:
        one, other = call.tensor(0), call.tensor(1)
        return call.elementwise("OR", call.elementwise(operation, one, other), call.elementwise("EQUAL", one, other))

    return rule


def _mod(call: Call) -> Tensor:
    one, other = call.tensor(0), call.tensor(1)
    if not is_integer(one.dtype):
        raise call.refuse(
            "TensorRT has no remainder of floats that does not round", "cast to integers, or leave it out"
        )
    quotient = call.elementwise("DIV" if call.integer("fmod", 0) else "FLOOR_DIV", one, other)
    return call.elementwise("SUB", one, call.elementwise("PROD", quotient, other))


def _bitwise_not(call: Call) -> Tensor:
    tensor = call.tensor(0)
    return call.elementwise("SUB", call.unary("NEG", tensor), call.like(1, tensor))


def _pow(call: Call) -> Tensor:
    base, exponent = call.tensor(0), call.tensor(1)
    if is_integer(base.dtype) and is_float(exponent.dtype):
        power = call.elementwise("POW", call.cast(base, exponent.dtype), exponent)
        return call.cast(power, base.dtype)
    return call.elementwise("POW", base, call.cast(exponent, base.dtype))


def _prelu(call: Call) -> Tensor:
    tensor, slope = call.aligned(call.tensor(0), call.tensor(1))
    if not is_float(tensor.dtype):
        negative = call.elementwise("LESS", tensor, call.like(0, tensor))
        return call.select(negative, call.elementwise("PROD", tensor, slope), tensor)
    return call.out("parametric_relu", tensor, slope)


def _clip(call: Call) -> Tensor:
    """One activation where both limits are known floats, as layers fuse it; else a maximum and a minimum."""
    tensor = call.tensor(0)
    low, high = _limit(call, "min", 1), _limit(call, "max", 2)
    if isinstance(low, float) and isinstance(high, float) and low <= high and is_float(tensor.dtype):
        return call.activation("CLIP", tensor, alpha=low, beta=high)
    for limit, operation in ((low, "MAX"), (high, "MIN")):
        if limit is not None:
            tensor = call.elementwise(
                operation, tensor, call.like(limit, tensor) if isinstance(limit, float) else limit
            )
    return tensor if low is not None or high is not None else call.out("identity", tensor)


def _limit(call: Call, name: str, index: int) -> float | Tensor | None:
    if name in call.node.attributes:
        return call.number(name, 0.0)
    array = call.constant(index)
    if array is not None and array.size == 1 and array.dtype.kind not in "iu":
        return float(array.reshape(-1)[0])
    return call.optional(index)
