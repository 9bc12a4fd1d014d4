"""What elementwise operators compute, from vectors of float32 numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

from tvm import tirx

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder
from graphpress.backends.tvm.codegen.functions import cos, erf, exp, log, log1p, sigmoid, sin, tanh
from graphpress.backends.tvm.codegen.vectors import clamped, splat, typed


def _swish(b: KernelBuilder, x: Expr, lanes: int, alpha: float = 1.0) -> Expr:
    return x * sigmoid(b, x if alpha == 1.0 else x * splat(alpha, lanes), lanes)


def _gelu(b: KernelBuilder, x: Expr, lanes: int) -> Expr:
    return x * splat(0.5, lanes) * (splat(1.0, lanes) + erf(b, x * splat(0.7071067811865476, lanes), lanes))


def _gelu_tanh(b: KernelBuilder, x: Expr, lanes: int) -> Expr:
    inner = splat(math.sqrt(2 / math.pi), lanes) * (x + splat(0.044715, lanes) * (x * x * x))
    return x * splat(0.5, lanes) * (splat(1.0, lanes) + tanh(b, inner, lanes))


def _hard_swish(b: KernelBuilder, x: Expr, lanes: int) -> Expr:
    return x * _hard_sigmoid(b, x, lanes, 1 / 6)


def _hard_sigmoid(b: KernelBuilder, x: Expr, lanes: int, alpha: float = 0.2, beta: float = 0.5) -> Expr:
    return clamped(x * splat(alpha, lanes) + splat(beta, lanes), splat(0.0, lanes), splat(1.0, lanes))


def _softplus(b: KernelBuilder, x: Expr, lanes: int) -> Expr:
    rest = log1p(b, exp(b, splat(0.0, lanes) - tirx.abs(x), lanes), lanes)
    return tirx.max(x, splat(0.0, lanes)) + rest


def _mish(b: KernelBuilder, x: Expr, lanes: int) -> Expr:
    """The hyperbolic tangent of log(1 + e) is (e² + 2e) / (e² + 2e + 2); beyond 20 it is 1."""
    e = b.let(exp(b, tirx.min(x, splat(20.0, lanes)), lanes))
    n = b.let(e * (e + splat(2.0, lanes)))
    return x * (n / (n + splat(2.0, lanes)))


def _softsign(b: KernelBuilder, x: Expr, lanes: int) -> Expr:
    return x / (splat(1.0, lanes) + tirx.abs(x))


def _elu(b: KernelBuilder, x: Expr, lanes: int, alpha: float = 1.0) -> Expr:
    below = splat(alpha, lanes) * (exp(b, x, lanes) - splat(1.0, lanes))
    return tirx.Select(x < splat(0.0, lanes), below, x)


def _selu(b: KernelBuilder, x: Expr, lanes: int, alpha: float = 1.6732632, gamma: float = 1.0507010) -> Expr:
    return splat(gamma, lanes) * _elu(b, x, lanes, alpha)


def _celu(b: KernelBuilder, x: Expr, lanes: int, alpha: float = 1.0) -> Expr:
    below = splat(alpha, lanes) * (exp(b, x * splat(1 / alpha, lanes), lanes) - splat(1.0, lanes))
    return tirx.Select(x < splat(0.0, lanes), below, x)


def _leaky_relu(b: KernelBuilder, x: Expr, lanes: int, alpha: float = 0.01) -> Expr:
    return tirx.Select(x < splat(0.0, lanes), x * splat(alpha, lanes), x)


def _thresholded_relu(b: KernelBuilder, x: Expr, lanes: int, alpha: float = 1.0) -> Expr:
    return tirx.Select(x > splat(alpha, lanes), x, splat(0.0, lanes))


def _shrink(b: KernelBuilder, x: Expr, lanes: int, bias: float = 0.0, lambd: float = 0.5) -> Expr:
    above = tirx.Select(x > splat(lambd, lanes), x - splat(bias, lanes), splat(0.0, lanes))
    return tirx.Select(x < splat(-lambd, lanes), x + splat(bias, lanes), above)


def _sign(b: KernelBuilder, x: Expr, lanes: int) -> Expr:
    above = tirx.Select(x > splat(0.0, lanes), splat(1.0, lanes), splat(0.0, lanes))
    return tirx.Select(x < splat(0.0, lanes), splat(-1.0, lanes), above)


def _abs(b: KernelBuilder, x: Expr, lanes: int) -> Expr:
    return tirx.abs(x)


def _neg(b: KernelBuilder, x: Expr, lanes: int) -> Expr:
    return splat(-1.0, lanes) * x


def _reciprocal(b: KernelBuilder, x: Expr, lanes: int) -> Expr:
    return splat(1.0, lanes) / x


def _square(b: KernelBuilder, x: Expr, lanes: int) -> Expr:
    return x * x


def _sqrt(b: KernelBuilder, x: Expr, lanes: int) -> Expr:
    return tirx.sqrt(x)


def _floor(b: KernelBuilder, x: Expr, lanes: int) -> Expr:
    return tirx.floor(x)


def _ceil(b: KernelBuilder, x: Expr, lanes: int) -> Expr:
    return tirx.ceil(x)


def _round(b: KernelBuilder, x: Expr, lanes: int) -> Expr:
    return tirx.nearbyint(x)


def truth(condition: Expr, lanes: int) -> Expr:
    """1 where a condition holds, else 0."""
    return tirx.Select(condition, splat(1.0, lanes), splat(0.0, lanes))


def _not(b: KernelBuilder, x: Expr, lanes: int) -> Expr:
    return truth(x == splat(0.0, lanes), lanes)


def _is_nonzero(b: KernelBuilder, x: Expr, lanes: int) -> Expr:
    """What is no number is true."""
    return tirx.Select(x == splat(0.0, lanes), splat(0.0, lanes), splat(1.0, lanes))


def _is_nan(b: KernelBuilder, x: Expr, lanes: int) -> Expr:
    """By its bits: compilers take a number to equal itself."""
    magnitude = tirx.reinterpret(typed("int32", lanes), x) & splat(0x7FFFFFFF, lanes, "int32")
    return truth(magnitude > splat(0x7F800000, lanes, "int32"), lanes)


def _is_inf(b: KernelBuilder, x: Expr, lanes: int, negative: float = 1.0, positive: float = 1.0) -> Expr:
    below = truth(x == splat(float("-inf"), lanes), lanes) * splat(negative, lanes)
    return below + truth(x == splat(float("inf"), lanes), lanes) * splat(positive, lanes)


def _identity(b: KernelBuilder, x: Expr, lanes: int) -> Expr:
    return x


FUNCTIONS: Mapping[str, Callable[..., Expr]] = MappingProxyType(
    {
        "abs": _abs,
        "ceil": _ceil,
        "celu": _celu,
        "cos": cos,
        "elu": _elu,
        "erf": erf,
        "exp": exp,
        "floor": _floor,
        "gelu": _gelu,
        "gelu_tanh": _gelu_tanh,
        "hard_sigmoid": _hard_sigmoid,
        "hard_swish": _hard_swish,
        "identity": _identity,
        "is_inf": _is_inf,
        "is_nan": _is_nan,
        "is_nonzero": _is_nonzero,
        "leaky_relu": _leaky_relu,
        "log": log,
        "mish": _mish,
        "neg": _neg,
        "not": _not,
        "reciprocal": _reciprocal,
        "round": _round,
        "selu": _selu,
        "shrink": _shrink,
        "sigmoid": sigmoid,
        "sign": _sign,
        "sin": sin,
        "softplus": _softplus,
        "softsign": _softsign,
        "sqrt": _sqrt,
        "square": _square,
        "swish": _swish,
        "tanh": tanh,
        "thresholded_relu": _thresholded_relu,
    }
)
"""Functions of one number, by name: they take the builder, a vector that has a name already, its lanes, and what
parameters they have, each with the default of the ONNX operator."""


def _min(b: KernelBuilder, x: Expr, y: Expr, lanes: int) -> Expr:
    return tirx.min(x, y)


def _max(b: KernelBuilder, x: Expr, y: Expr, lanes: int) -> Expr:
    return tirx.max(x, y)


def _mul(b: KernelBuilder, x: Expr, y: Expr, lanes: int) -> Expr:
    return x * y


def _div(b: KernelBuilder, x: Expr, y: Expr, lanes: int) -> Expr:
    return x / y


def _prelu(b: KernelBuilder, x: Expr, y: Expr, lanes: int) -> Expr:
    return tirx.Select(x < splat(0.0, lanes), x * y, x)


def _equal(b: KernelBuilder, x: Expr, y: Expr, lanes: int) -> Expr:
    return truth(x == y, lanes)


def _less(b: KernelBuilder, x: Expr, y: Expr, lanes: int) -> Expr:
    return truth(x < y, lanes)


def _less_or_equal(b: KernelBuilder, x: Expr, y: Expr, lanes: int) -> Expr:
    return truth(x <= y, lanes)


def _greater(b: KernelBuilder, x: Expr, y: Expr, lanes: int) -> Expr:
    return truth(x > y, lanes)


def _greater_or_equal(b: KernelBuilder, x: Expr, y: Expr, lanes: int) -> Expr:
    return truth(x >= y, lanes)


def _xor(b: KernelBuilder, x: Expr, y: Expr, lanes: int) -> Expr:
    return truth(x != y, lanes)


BINARY_FUNCTIONS: Mapping[str, Callable[[KernelBuilder, Expr, Expr, int], Expr]] = MappingProxyType(
    {
        "div": _div,
        "equal": _equal,
        "greater": _greater,
        "greater_or_equal": _greater_or_equal,
        "less": _less,
        "less_or_equal": _less_or_equal,
        "max": _max,
        "min": _min,
        "mul": _mul,
        "prelu": _prelu,
        "xor": _xor,
    }
)
"""Functions of two numbers beside sums, by name; what is true is 1, and what is false 0."""
