"""Elementwise operators of several operands: an output element depends on the elements that broadcast to it.

Axes: operands are aligned at the end and what meets is united. Cost: a fixed number of operations per element, a
transcendental function counting as several.
"""

from __future__ import annotations

from graphpress.ir import NodeView
from graphpress.ops.rules import TRANSCENDENTAL, broadcast, per_output, same
from graphpress.ops.spec import ELEMENTWISE, OpSpec, Quantization, Role, Work

_SYMMETRIC = ("Add", "Mul", "And", "Or", "Xor", "Equal", "BitwiseAnd", "BitwiseOr", "BitwiseXor")
_ORDERED = ("Sub", "Div", "Mod", "BitShift", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "PRelu")
_VARIADIC = ("Max", "Mean", "Min", "Sum")


def entries() -> dict[str, OpSpec]:
    """The operators of this family."""
    return {
        **{name: _operands(commutative=True) for name in _SYMMETRIC},
        **{name: _operands() for name in _ORDERED},
        **{name: OpSpec(broadcast, _variadic, ELEMENTWISE, elementwise=True, commutative=True) for name in _VARIADIC},
        "Clip": OpSpec(same, per_output(2), ELEMENTWISE, elementwise=True),
        "Pow": _operands(operations=TRANSCENDENTAL),
        "SwiGLU": _operands(operations=TRANSCENDENTAL + 2),
        "Where": OpSpec(broadcast, per_output(), Quantization(Role.MOVES_DATA, shared=(1, 2)), elementwise=True),
    }


def _operands(*, operations: int = 1, commutative: bool = False) -> OpSpec:
    return OpSpec(broadcast, per_output(operations), ELEMENTWISE, elementwise=True, commutative=commutative)


def _variadic(node: NodeView) -> Work:
    return Work(operations=len(node.inputs) * per_output()(node).operations)
