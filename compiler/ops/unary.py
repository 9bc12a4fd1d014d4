"""Operators of one operand, element by element, casts, and what is the identity at inference."""

from __future__ import annotations

from graphpress.ops.rules import TRANSCENDENTAL, moving, per_output, same, view
from graphpress.ops.spec import ELEMENTWISE, MOVES_FIRST, OpSpec

_CHEAP = (
    "Abs", "BitwiseNot", "Ceil", "Floor", "IsInf", "IsNaN", "Neg", "Not", "Reciprocal", "Relu", "LeakyRelu", "Round",
    "Shrink", "Sign", "ThresholdedRelu", "HardSigmoid", "HardSwish",
)  # fmt: skip


_COSTLY = (
    "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Celu", "Cos", "Cosh", "Elu", "Erf", "Exp", "Gelu", "Log",
    "Mish", "Selu", "Sigmoid", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Swish", "Tan", "Tanh",
)  # fmt: skip


def entries() -> dict[str, OpSpec]:
    """The operators of this family."""
    return {
        **{name: _unary(1) for name in _CHEAP},
        **{name: _unary(TRANSCENDENTAL) for name in _COSTLY},
        "Cast": OpSpec(same, moving, elementwise=True),
        "CastLike": OpSpec(same, moving, elementwise=True),
        "Dropout": OpSpec(same, view, MOVES_FIRST, elementwise=True, foldable=False),
        "Identity": OpSpec(same, view, MOVES_FIRST, elementwise=True),
    }


def _unary(operations: int) -> OpSpec:
    return OpSpec(same, per_output(operations), ELEMENTWISE, elementwise=True)
