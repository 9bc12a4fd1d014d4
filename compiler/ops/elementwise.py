"""Elementwise operators: each output element depends on the elements that broadcast to its position.

Axes: operands are aligned at the end and what meets is united. Cost: a fixed number of operations per element, a
transcendental function counting as several.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphpress.ops.atoms import Axes
from graphpress.ops.rules import broadcast, moving, per_output, same, unite_broadcast, view
from graphpress.ops.spec import ELEMENTWISE, MOVES_FIRST, Call, Flow, OpSpec, Quantization, Role, Work

_TRANSCENDENTAL = 8
"""Operations that an exponential, logarithm, root or trigonometric function stands for."""

_CHEAP_UNARY = (
    "Abs", "BitwiseNot", "Ceil", "Floor", "IsInf", "IsNaN", "Neg", "Not", "Reciprocal", "Relu", "LeakyRelu", "Round",
    "Shrink", "Sign", "ThresholdedRelu", "HardSigmoid", "HardSwish",
)  # fmt: skip
_COSTLY_UNARY = (
    "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Celu", "Cos", "Cosh", "Elu", "Erf", "Exp", "Gelu", "Log",
    "Mish", "Selu", "Sigmoid", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Swish", "Tan", "Tanh",
)  # fmt: skip
_SYMMETRIC = ("Add", "Mul", "And", "Or", "Xor", "Equal", "BitwiseAnd", "BitwiseOr", "BitwiseXor")
_ORDERED = ("Sub", "Div", "Mod", "BitShift", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "PRelu")
_VARIADIC = ("Max", "Mean", "Min", "Sum")


def entries() -> list[OpSpec]:
    """The operators of this family."""
    return [
        *(_unary(name, 1) for name in _CHEAP_UNARY),
        *(_unary(name, _TRANSCENDENTAL) for name in _COSTLY_UNARY),
        *(_operands(name, commutative=True) for name in _SYMMETRIC),
        *(_operands(name) for name in _ORDERED),
        _operands("SwiGLU", operations=_TRANSCENDENTAL + 2),
        _operands("Pow", operations=_TRANSCENDENTAL),
        *(OpSpec(name, broadcast, _variadic, ELEMENTWISE, elementwise=True, commutative=True) for name in _VARIADIC),
        OpSpec("Where", broadcast, per_output(), Quantization(Role.MOVES_DATA, shared=(1, 2)), elementwise=True),
        OpSpec("Clip", same, per_output(2), ELEMENTWISE, elementwise=True),
        OpSpec("Identity", same, view, MOVES_FIRST, elementwise=True),
        OpSpec("Cast", same, moving, elementwise=True),
        OpSpec("CastLike", same, moving, elementwise=True),
        OpSpec("Dropout", same, view, MOVES_FIRST, elementwise=True, foldable=False),
        OpSpec("BatchNormalization", _batch_norm, per_output(2)),
    ]


def _unary(name: str, operations: int) -> OpSpec:
    return OpSpec(name, same, per_output(operations), ELEMENTWISE, elementwise=True)


def _operands(name: str, *, operations: int = 1, commutative: bool = False) -> OpSpec:
    return OpSpec(name, broadcast, per_output(operations), ELEMENTWISE, elementwise=True, commutative=commutative)


def _variadic(call: Call) -> Work:
    return Work(operations=len(call.node.inputs) * per_output()(call).operations)


def _batch_norm(flow: Flow) -> Sequence[Axes | None]:
    """The four parameters belong to axis 1; statistics written in training mode do too."""
    data = flow.of(0)
    channels = data[1] if len(data) > 1 else data[0]
    for parameter in flow.axes[1:5]:
        unite_broadcast(flow.atoms, (channels,), parameter)
    return [data, *[(channels,)] * (len(flow.outputs) - 1)]
