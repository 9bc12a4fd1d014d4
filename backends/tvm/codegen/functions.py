"""Functions of float32 vectors that processors have no instructions for.

exp       2^n · p(r) with n = round(x / ln 2), r = x - n · ln 2 in two parts (Cody and Waite), p of degree 6; n goes
into the exponent's bits. Relative error below 2e-7 (Moshier, Cephes)
erf       x · P(x²) / Q(x²) for |x| < 4, ±1 beyond; below 5e-7 absolute (the coefficients of Eigen)
tanh      (1 - e) / (1 + e) with e = exp(-2|x|), sign put back; its series where |x| is small
log       2^n · m with m in [√½, √2): n · ln 2 + a polynomial of m - 1 of degree 9 (Moshier, Cephes)
log1p     y · log(u) / (u - 1) with u = 1 + y as it is rounded: the quotient takes the rounding back (Kahan)
sin, cos  of what is left of the nearest multiple of π/2, in three parts (Cody and Waite), by polynomials (Moshier,
Cephes); below 2e-7 up to 8192, beyond which the parts no longer suffice
"""

from __future__ import annotations

import math
from collections.abc import Sequence

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


SMALLEST_NORMAL = 1.17549435e-38
LOG_POLYNOMIAL = (
    7.0376836292e-2,
    -1.1514610310e-1,
    1.1676998740e-1,
    -1.2420140846e-1,
    1.4249322787e-1,
    -1.6668057665e-1,
    2.0000714765e-1,
    -2.4999993993e-1,
    3.3333331174e-1,
)


def log(b: KernelBuilder, x: Expr, lanes: int) -> Expr:
    """The natural logarithm; minus infinity of 0, not a number of what is negative."""
    x = b.let(x)
    tiny = x < splat(SMALLEST_NORMAL, lanes)
    bits = b.let(tirx.reinterpret(typed("int32", lanes), tirx.Select(tiny, x * splat(float(1 << 23), lanes), x)))
    # as if √½ were the smallest mantissa: its distance from 1 is the offset
    moved = b.let(bits - splat(0x3F3504F3, lanes, "int32"))
    exponent = b.let((moved >> splat(23, lanes, "int32")).astype(typed(FLOAT, lanes)))
    mantissa = (moved & splat(0x7FFFFF, lanes, "int32")) + splat(0x3F3504F3, lanes, "int32")
    m = b.let(tirx.reinterpret(typed(FLOAT, lanes), mantissa) - splat(1.0, lanes))
    n = b.let(exponent - tirx.Select(tiny, splat(23.0, lanes), splat(0.0, lanes)))
    square = b.let(m * m)
    result = polynomial(m, LOG_POLYNOMIAL, lanes) * (m * square) + n * splat(LN2_LOW, lanes)
    result = b.let(result - square * splat(0.5, lanes) + m + n * splat(LN2_HIGH, lanes))
    infinite = tirx.Select(x < splat(float("inf"), lanes), result, x)  # infinity, or not a number
    below = tirx.Select(x < splat(0.0, lanes), splat(float("nan"), lanes), splat(float("-inf"), lanes))
    return tirx.Select(x <= splat(0.0, lanes), below, infinite)


def log1p(b: KernelBuilder, y: Expr, lanes: int) -> Expr:
    """log(1 + y) for y from 0 to 1, exact to the last digits of small results too."""
    y = b.let(y)
    u = b.let(y + splat(1.0, lanes))
    rounded = b.let(u - splat(1.0, lanes))
    nothing = rounded == splat(0.0, lanes)
    return tirx.Select(nothing, y, log(b, u, lanes) * (y / tirx.Select(nothing, splat(1.0, lanes), rounded)))


HALF_PI_PARTS = (1.5703125, 4.837512969970703125e-4, 7.549789948768648e-8)
SIN_POLYNOMIAL = (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
COS_POLYNOMIAL = (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)


def _turned(b: KernelBuilder, x: Expr, lanes: int, quarters: int) -> Expr:
    """The sine of x and so many right angles."""
    n = b.let(tirx.nearbyint(x * splat(2 / math.pi, lanes)))
    for part in HALF_PI_PARTS:
        x = x - n * splat(part, lanes)
    x, quadrant = b.let(x), b.let(n.astype(typed("int32", lanes)) + splat(quarters, lanes, "int32"))
    square = b.let(x * x)
    sine = polynomial(square, SIN_POLYNOMIAL, lanes) * square * x + x
    cosine = (
        polynomial(square, COS_POLYNOMIAL, lanes) * (square * square) - square * splat(0.5, lanes) + splat(1.0, lanes)
    )
    odd = (quadrant & splat(1, lanes, "int32")) != splat(0, lanes, "int32")
    value = b.let(tirx.Select(odd, cosine, sine))
    back = (quadrant & splat(2, lanes, "int32")) != splat(0, lanes, "int32")
    return tirx.Select(back, splat(0.0, lanes) - value, value)


def sin(b: KernelBuilder, x: Expr, lanes: int) -> Expr:
    """The sine of an angle in radians."""
    return _turned(b, x, lanes, 0)


def cos(b: KernelBuilder, x: Expr, lanes: int) -> Expr:
    """The cosine of an angle in radians."""
    return _turned(b, x, lanes, 1)
