"""What sums many values keeps float32, for the sum has to fit and what is added has to count.

    s = x₁ + … + xₙ      |s| ≤ n · max|x|      |computed − s| ≤ γₙ₋₁ · Σ|x|,   γₙ = n·u / (1 − n·u)

(Higham, Accuracy and Stability of Numerical Algorithms, section 4.2.) With p bits of mantissa u is 2⁻ᵖ: from n = 2ᵖ
values on there is no bound of the error left, since a value may vanish beside the sum of those before it. How a device
adds up is its own affair, so nothing better than a sum in a row is counted on. Squares and exponentials are added up
as such, and a mean is a sum before it is divided. What ONNX defines to take its statistics in float32 (``stash_type``)
does so anyway; products of matrices are not looked at here, for their kernels add up in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from graphpress.ir import Node, NodeView, is_standard
from graphpress.ops.semantics.axes import reduced_axes, softmax_axis
from graphpress.passes.precision._plan import PrecisionPlan
from graphpress.passes.precision._ranges import MANTISSA, Ranges

_PLAIN = ("AveragePool", "GlobalAveragePool", "ReduceL1", "ReduceLogSum", "ReduceMean", "ReduceSum")
_SQUARES = (
    "GlobalLpPool", "GroupNormalization", "InstanceNormalization", "LRN", "LpNormalization", "LpPool",
    "MeanVarianceNormalization", "ReduceL2", "ReduceSumSquare",
)  # fmt: skip
_EXPONENTIALS = ("ReduceLogSumExp",)
_SHARES = ("LogSoftmax", "Softmax")
"""The numbers that these add up are at most 1."""

_LARGEST_EXPONENT = 700.0

Sizes = Sequence[int | None]


def strike_sums(plan: PrecisionPlan, ranges: Ranges) -> None:
    """Keep in float32 every node whose sum may not fit, or in which what is added may vanish."""
    for node in list(plan.nodes):
        if is_standard(node, *_PLAIN, *_SQUARES, *_EXPONENTIALS, *_SHARES) and not _is_stashed(node):
            why = _why_not(node, _terms(node, ranges), plan, ranges)
            if why is not None:
                plan.strike(node, why)


def _why_not(node: Node, count: int | None, plan: PrecisionPlan, ranges: Ranges) -> str | None:
    """Why a node that adds up so many numbers keeps float32; None where it need not."""
    op_type, most = node.op_type, 2 ** MANTISSA[plan.dtype]
    reached = (count or 1) * _term(node, ranges)
    if reached > plan.limit:
        return f"what {op_type} sums up reaches {reached:.3g}, and {plan.dtype} ends before"
    if op_type in _SHARES:
        return None
    if count is None:
        return f"over how many values {op_type} goes is not known, nor whether {plan.dtype} holds their sum"
    if count >= most:
        return f"{op_type} sums up {count} values: beside a sum of {most} others one of them may vanish in {plan.dtype}"
    return None


def _is_stashed(node: Node) -> bool:
    """Whether the operator takes its statistics in float32, whatever it computes in."""
    return is_standard(node, "GroupNormalization") and NodeView.of(node).opset >= 21


def _term(node: Node, ranges: Ranges) -> float:
    """The largest number that is added."""
    if is_standard(node, *_SHARES):
        return 1.0
    data = node.inputs[0]
    largest = 0.0 if data is None else ranges.largest(data) * ranges.headroom
    if is_standard(node, *_EXPONENTIALS):
        return float(np.exp(min(largest, _LARGEST_EXPONENT)))
    return largest**2 if is_standard(node, *_SQUARES) else largest


def _terms(node: Node, ranges: Ranges) -> int | None:
    """How many numbers are added; None where that is not known."""
    data, view = node.inputs[0], NodeView.of(node)
    if is_standard(node, "AveragePool", "LpPool"):
        return prod(view.integers("kernel_shape") or ())
    if is_standard(node, "LRN"):
        return view.integer("size", 1)
    sizes = None if data is None else ranges.sizes(data)
    axes = None if sizes is None else _axes(view, len(sizes))
    if sizes is None or axes is None:
        return None
    along = [size for axis in axes if (size := sizes[axis]) is not None]
    groups = view.integer("num_groups", 1) if is_standard(node, "GroupNormalization") else 1
    return prod(along) // groups if len(along) == len(axes) else None


def _axes(view: NodeView, rank: int) -> Sequence[int] | None:
    """The axes along which a node adds up; None where they are computed at run time."""
    if view.op_type.startswith("Reduce"):
        given = view.integers("axes", 1)
        return None if given is None and view.has(1) else reduced_axes(view, given, rank)
    if view.op_type in _SHARES:
        axis, alone = softmax_axis(view)
        return [axis % rank] if alone else range(axis % rank, rank)
    if view.op_type == "LpNormalization":
        return [view.axis(-1, rank)]
    if view.op_type == "MeanVarianceNormalization":
        return [axis % rank for axis in view.integers("axes") or (0, 2, 3)]
    return range(1 if view.op_type == "GroupNormalization" else 2, rank)
