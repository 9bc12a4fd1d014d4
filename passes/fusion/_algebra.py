"""Normal forms of small scalar expressions, so that a pattern is written once for all the ways to express it.

A value is seen as a product of factors, as a polynomial in another value, or as one clamped to an interval. Every
function adds the nodes that it looked through to ``seen``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from graphpress.ir import Node, Value, has_one_use, input_of, producer
from graphpress.passes.fusion._operands import bound, number, orders, with_number

MAX_DEPTH = 6
"""No activation is written in a longer chain; bounds the work on long chains of products."""
MAX_DEGREE = 4

Polynomial = tuple[float, ...]
"""Coefficients from the constant upwards."""


@dataclass(frozen=True)
class Monomial:
    """``coefficient`` times all ``factors``, none of which is a constant number."""

    coefficient: float
    factors: tuple[Value, ...]


@dataclass(frozen=True)
class Clamp:
    """``value`` limited to [low, high]."""

    value: Value
    low: float = -math.inf
    high: float = math.inf


def product(node: Node, seen: list[Node], depth: int = MAX_DEPTH) -> Monomial | None:
    """The product that a Mul, or a Div by a number, computes; operands that nobody else reads are looked into."""
    if node.op_type == "Div":
        dividend, divisor = node.inputs
        by = number(divisor, dividend)
        if dividend is None or not by:
            return None
        seen.append(node)
        inner = _factor(dividend, seen, depth)
        return Monomial(inner.coefficient / by, inner.factors)
    if node.op_type != "Mul":
        return None
    seen.append(node)
    scaled = with_number(node)
    if scaled is not None:
        inner = _factor(scaled[0], seen, depth)
        return Monomial(inner.coefficient * scaled[1], inner.factors)
    operands = [_factor(value, seen, depth) for value in node.inputs if value is not None]
    factors = tuple(factor for operand in operands for factor in operand.factors)
    return Monomial(math.prod(operand.coefficient for operand in operands), factors)


def _factor(value: Value, seen: list[Node], depth: int) -> Monomial:
    node = producer(value, "Mul", "Div")
    if node is not None and depth and has_one_use(value):
        factored = product(node, seen, depth - 1)
        if factored is not None:
            return factored
    return Monomial(1.0, (value,))


def gated(node: Node) -> Iterator[tuple[float, Value, Value, list[Node]]]:
    """The readings of a node as ``coefficient · x · gate``: both orders of its two variable factors, if it has two.

    The fourth item is the list of nodes looked through, a fresh one for each reading.
    """
    seen: list[Node] = []
    factored = product(node, seen)
    if factored is not None and len(factored.factors) == 2:
        first, second = factored.factors
        yield factored.coefficient, first, second, list(seen)
        yield factored.coefficient, second, first, list(seen)


def scaled(value: Value | None, seen: list[Node]) -> tuple[Value | None, float]:
    """The v and the number a of ``value = a·v``; only values that nobody else reads are looked into."""
    scale = 1.0
    for _ in range(MAX_DEPTH):
        step = None if value is None or not has_one_use(value) else _affine_step(value.producer())
        node = None if value is None else value.producer()
        if step is None or node is None or step[2]:
            break
        seen.append(node)
        value, scale = step[0], scale * step[1]
    return value, scale


def affine(value: Value, seen: list[Node], root: Value | None = None) -> tuple[Value, float, float]:
    """The innermost ``v`` with ``value = a·v + b``, found through operations with numbers; returns (v, a, b).

    Only values that nobody else reads are looked into, and ``root``.
    """
    scale, shift = 1.0, 0.0
    for _ in range(MAX_DEPTH):
        step = _affine_step(value.producer()) if value is root or has_one_use(value) else None
        if step is None:
            break
        node = value.producer()
        assert node is not None
        seen.append(node)
        value, a, b = step
        scale, shift = scale * a, scale * b + shift
    return value, scale, shift


def _affine_step(node: Node | None) -> tuple[Value, float, float] | None:
    if node is None or producer(node.outputs[0], "Mul", "Add", "Sub", "Div", "Neg") is None:
        return None
    if node.op_type == "Neg":
        return None if node.inputs[0] is None else (node.inputs[0], -1.0, 0.0)
    if node.op_type in ("Mul", "Add"):
        joined = with_number(node)
        if joined is None:
            return None
        return (joined[0], joined[1], 0.0) if node.op_type == "Mul" else (joined[0], 1.0, joined[1])
    first, second = node.inputs
    right, left = number(second, first), number(first, second)
    if first is not None and right is not None:
        if node.op_type == "Sub":
            return first, 1.0, -right
        return (first, 1 / right, 0.0) if right else None
    if second is not None and left is not None and node.op_type == "Sub":
        return second, -1.0, left
    return None


def polynomial(value: Value, variable: Value, seen: list[Node], depth: int = MAX_DEPTH) -> Polynomial | None:
    """``value`` as a polynomial in ``variable``, None when it is none (of degree 4 at most)."""
    if value is variable:
        return 0.0, 1.0
    node = producer(value, "Mul", "Add", "Sub", "Div", "Neg", "Pow")
    if node is None or not depth:
        return None
    if node.op_type == "Pow":
        terms = _power(node, variable, seen, depth)
    elif node.op_type == "Mul" and node.inputs[0] is node.inputs[1] and node.inputs[0] is not None:
        inner = polynomial(node.inputs[0], variable, seen, depth - 1)
        terms = None if inner is None else _multiply(inner, inner)
    elif (step := _affine_step(node)) is not None:
        inner = polynomial(step[0], variable, seen, depth - 1)
        terms = None if inner is None else _add(_multiply((step[1],), inner), (step[2],))
    else:
        terms = _of_two(node, variable, seen, depth)
    if terms is not None:
        seen.append(node)
    return terms


def _power(node: Node, variable: Value, seen: list[Node], depth: int) -> Polynomial | None:
    base, exponent = node.inputs[0], number(node.inputs[1], node.inputs[0])
    if base is None or exponent not in (2.0, 3.0):
        return None
    inner = polynomial(base, variable, seen, depth - 1)
    if inner is None:
        return None
    square = _multiply(inner, inner)
    return square if exponent == 2 or square is None else _multiply(square, inner)


def _of_two(node: Node, variable: Value, seen: list[Node], depth: int) -> Polynomial | None:
    if node.op_type not in ("Mul", "Add"):
        return None
    for first, second in orders(node):
        left = polynomial(first, variable, seen, depth - 1)
        right = polynomial(second, variable, seen, depth - 1)
        if left is None or right is None:
            return None
        return _multiply(left, right) if node.op_type == "Mul" else _add(left, right)
    return None


def _multiply(first: Polynomial, second: Polynomial) -> Polynomial | None:
    if len(first) + len(second) - 2 > MAX_DEGREE:
        return None
    result = [0.0] * (len(first) + len(second) - 1)
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            result[i + j] += a * b
    return tuple(result)


def _add(first: Polynomial | None, second: Polynomial) -> Polynomial | None:
    if first is None:
        return None
    size = max(len(first), len(second))
    padded = [(*terms, *[0.0] * (size - len(terms))) for terms in (first, second)]
    return tuple(a + b for a, b in zip(*padded, strict=True))


def clamp(value: Value, seen: list[Node], root: Value | None = None) -> Clamp | None:
    """The interval that a Clip, Relu, Min or Max limits a value to, through several in a row; None without any.

    Only values that nobody else reads are looked into, and ``root``.
    """
    clamped = Clamp(value)
    limits: list[tuple[float, float]] = []
    for _ in range(MAX_DEPTH):
        step = _clamp_step(clamped.value) if clamped.value is root or has_one_use(clamped.value) else None
        if step is None:
            break
        node = clamped.value.producer()
        assert node is not None
        seen.append(node)
        limits.append((step.low, step.high))
        clamped = step
    if not limits:
        return None
    low, high = limits.pop()
    for floor, ceiling in reversed(limits):
        low, high = min(max(low, floor), ceiling), min(max(high, floor), ceiling)
    return Clamp(clamped.value, low, high)


def _clamp_step(value: Value) -> Clamp | None:
    node = producer(value, "Clip", "Relu", "Min", "Max")
    source = None if node is None else input_of(node, 0)
    if node is None or source is None:
        return None
    if node.op_type == "Relu":
        return Clamp(source, low=0.0)
    if node.op_type == "Clip":
        low, high = bound(node, 1, "min", -math.inf), bound(node, 2, "max", math.inf)
        return None if low is None or high is None or low > high else Clamp(source, low, high)
    joined = with_number(node)
    if joined is None:
        return None
    return Clamp(joined[0], low=joined[1]) if node.op_type == "Max" else Clamp(joined[0], high=joined[1])
