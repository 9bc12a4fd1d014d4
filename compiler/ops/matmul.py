"""Matrix products, also those on integers, and Einsum.

Axes: the two sides of a contraction are united; the axis of output channels is that of the weight. Cost:
multiply-accumulates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from graphpress.ir import Node, NodeView, int_attribute
from graphpress.ops.dependency import Axes, Axis
from graphpress.ops.rules import broadcast_axes, given_axes, unite_axis, unite_broadcast, weighted
from graphpress.ops.semantics.einsum import Equation, parse_equation
from graphpress.ops.spec import AxesRule, CostRule, Flow, OpSpec, Quantization, Role, Work


def entries() -> dict[str, OpSpec]:
    """The operators of this family."""
    return {
        "Gemm": OpSpec(_gemm, _gemm_cost, weighted(1, 2, _gemm_channels)),
        "MatMul": OpSpec(_matmul(1), _matmul_cost(1), weighted(1, None, _last)),
        "MatMulInteger": OpSpec(_matmul(1), _matmul_cost(1), weighted(1, None, _last)),
        "QLinearMatMul": OpSpec(_matmul(3), _matmul_cost(3), weighted(3, None, _last)),
        "Einsum": OpSpec(_einsum, _einsum_cost, Quantization(Role.COMPUTE)),
    }


def _last(node: Node, rank: int) -> int:
    return rank - 1


def _gemm_channels(node: Node, rank: int) -> int:
    return 0 if int_attribute(node, "transB", 0) else 1


def _gemm(flow: Flow) -> Sequence[Axes | None]:
    a, b = flow.of(0), flow.of(1)
    rows, inner = reversed(a) if flow.node.integer("transA", 0) else a
    inner_b, columns = reversed(b) if flow.node.integer("transB", 0) else b
    flow.classes.unite(inner, inner_b)
    if flow.node.has(2):
        unite_broadcast(flow.classes, (rows, columns), flow.of(2))
    return [(rows, columns)]


def _gemm_cost(node: NodeView) -> Work:
    a, out = node.input_shape(0), math.prod(node.output_shape())
    return Work(out * a[0 if node.integer("transA", 0) else 1], out if node.has(2) else 0)


def _matmul(second: int) -> AxesRule:
    def rule(flow: Flow) -> Sequence[Axes | None]:
        a, b = flow.of(0), flow.of(second)
        flow.classes.unite(a[-1], b[-2] if len(b) > 1 else b[0])
        batch = broadcast_axes(flow.classes, [a[:-2], b[:-2]]) if len(a) > 2 or len(b) > 2 else ()
        if flow.node.op_type != "MatMul":
            _join_scales(flow, second)
        return [(*batch, *a[-2:-1], *(b[-1:] if len(b) > 1 else ()))]

    return rule


def _join_scales(flow: Flow, second: int) -> None:
    """Scales and zero-points of an integer product: rows of the first operand, columns of the second."""
    of_a, of_b = ((1, 2), (4, 5)) if second == 3 else ((2,), (3,))
    a, b = flow.of(0), flow.of(second)
    unite_axis(flow.classes, a[-2] if len(a) > 1 else a[0], *given_axes(flow, None, of_a))
    unite_axis(flow.classes, b[-1], *given_axes(flow, None, of_b))


def _matmul_cost(second: int) -> CostRule:
    return lambda node: Work(math.prod(node.output_shape()) * node.input_shape(0)[-1])


def _einsum(flow: Flow) -> Sequence[Axes | None]:
    """Axes with one label are united; one that is summed without a partner has its sum taken, so it stays."""
    equation = _equation(flow.node)
    bound: dict[str, Axis] = {}
    seen: dict[str, int] = {}
    for index, labels in enumerate(equation.terms):
        for label in set(labels):
            seen[label] = seen.get(label, 0) + 1
        for label, axis in zip(labels, flow.of(index), strict=True):
            if label in bound and len(axis) > 1 and len(bound[label]) > 1:
                flow.classes.unite(bound[label], axis)
            elif label not in bound or len(bound[label]) == 1:
                bound[label] = axis
    for label in bound.keys() - set(equation.result):
        if seen[label] == 1:
            flow.pin(bound[label], "an axis summed alone")
    return [tuple(bound[label] for label in equation.result)]


def _einsum_cost(node: NodeView) -> Work:
    equation = _equation(node)
    sizes: dict[str, int] = {}
    for index, labels in enumerate(equation.terms):
        for label, size in zip(labels, node.input_shape(index), strict=True):
            sizes[label] = max(size, sizes.get(label, 1))
    return Work(math.prod(sizes.values()) * max(1, len(equation.terms) - 1))


def _equation(node: NodeView) -> Equation:
    equation = node.text("equation", "")
    return parse_equation(equation, [len(node.input_shape(index)) for index in range(equation.count(",") + 1)])
