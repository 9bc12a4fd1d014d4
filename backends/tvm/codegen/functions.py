"""Functions of float32 vectors that processors have no instructions for.

exp       2^n · p(r) with n = round(x / ln 2), r = x - n · ln 2 in two parts (Cody and Waite), p of degree 6; n goes
into the exponent's bits. Relative error below 2e-7 (Moshier, Cephes)
erf       x · P(x²) / Q(x²) for |x| < 4, ±1 beyond; below 5e-7 absolute (the coefficients of Eigen)
tanh      (1 - e) / (1 + e) with e = exp(-2|x|), sign put back; its series where |x| is small
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from tvm import tirx

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder
from graphpress.backends.tvm.codegen.vectors import FLOAT, clamped, splat, typed

LOG2_E, LN2_HIGH, LN2_LOW = 1.4426950408889634, 0.693359375, -2.12194440e-4
EXP_LOWEST, EXP_HIGHEST = -87.33654, 88.37626
EXP_POLYNOMIAL = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)


def polynomial(x: Expr, coefficients: Sequence[float], lanes: int) -> Expr:
    """By Horner's rule, the highest power first."""
    result = splat(coefficients[0], lanes)
    for coefficient in coefficients[1:]:
        result = result * x + splat(coefficient, lanes)
    return result


def exp(b: KernelBuilder, x: Expr, lanes: int) -> Expr:
    """The exponential of float32 numbers; beyond the range of float32 it saturates."""
    x = b.let(clamped(x, splat(EXP_LOWEST, lanes), splat(EXP_HIGHEST, lanes)))
    n = b.let(tirx.nearbyint(x * splat(LOG2_E, lanes)))
    r = b.let(x - n * splat(LN2_HIGH, lanes) - n * splat(LN2_LOW, lanes))
    p = polynomial(r, EXP_POLYNOMIAL, lanes) * (r * r) + r + splat(1.0, lanes)
    exponent = (n.astype(typed("int32", lanes)) + splat(127, lanes, "int32")) << splat(23, lanes, "int32")
    return b.let(p) * tirx.reinterpret(typed(FLOAT, lanes), exponent)


def sigmoid(b: KernelBuilder, x: Expr, lanes: int) -> Expr:
    """1 / (1 + exp(-x))."""
    return splat(1.0, lanes) / (splat(1.0, lanes) + exp(b, splat(0.0, lanes) - x, lanes))


def tanh(b: KernelBuilder, x: Expr, lanes: int) -> Expr:
    """The hyperbolic tangent."""
    x = b.let(x)
    e = b.let(exp(b, tirx.abs(x) * splat(-2.0, lanes), lanes))
    far = (splat(1.0, lanes) - e) / (splat(1.0, lanes) + e)
    far = tirx.Select(x < splat(0.0, lanes), splat(0.0, lanes) - far, far)
    square = b.let(x * x)
    near = x * (polynomial(square, (-17 / 315, 2 / 15, -1 / 3), lanes) * square + splat(1.0, lanes))
    return tirx.Select(tirx.abs(x) < splat(0.1, lanes), near, far)


ERF_P = (
    -2.72614225801306e-10,
    2.77068142495902e-08,
    -2.10102402082508e-06,
    -5.69250639462346e-05,
    -7.34990630326855e-04,
    -2.95459980854025e-03,
    -1.60960333262415e-02,
)
ERF_Q = (
    -1.45660718464996e-05,
    -2.13374055278905e-04,
    -1.68282697438203e-03,
    -7.37332916720468e-03,
    -1.42647390514189e-02,
)


def erf(b: KernelBuilder, x: Expr, lanes: int) -> Expr:
    """The error function, as a ratio of polynomials."""
    x = b.let(clamped(x, splat(-4.0, lanes), splat(4.0, lanes)))
    square = b.let(x * x)
    return x * polynomial(square, ERF_P, lanes) / polynomial(square, ERF_Q, lanes)


def _silu(b: KernelBuilder, x: Expr, lanes: int) -> Expr:
    return x * sigmoid(b, x, lanes)


def _gelu(b: KernelBuilder, x: Expr, lanes: int) -> Expr:
    return x * splat(0.5, lanes) * (splat(1.0, lanes) + erf(b, x * splat(0.7071067811865476, lanes), lanes))


def _hard_swish(b: KernelBuilder, x: Expr, lanes: int) -> Expr:
    return x * _hard_sigmoid(b, x, lanes)


def _hard_sigmoid(b: KernelBuilder, x: Expr, lanes: int) -> Expr:
    return clamped(x * splat(1 / 6, lanes) + splat(0.5, lanes), splat(0.0, lanes), splat(1.0, lanes))


FUNCTIONS: Mapping[str, Callable[[KernelBuilder, Expr, int], Expr]] = MappingProxyType(
    {
        "erf": erf,
        "exp": exp,
        "gelu": _gelu,
        "hard_sigmoid": _hard_sigmoid,
        "hard_swish": _hard_swish,
        "sigmoid": sigmoid,
        "silu": _silu,
        "tanh": tanh,
    }
)
"""Functions of one number, by name."""
