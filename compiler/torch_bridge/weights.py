"""Which constants train.

A float constant trains when every place that reads it is one where a number is learned and not set:

- an operand of a contraction (convolution, matrix product, recurrent layer) or its bias;
- scale and bias of a normalization (its stored statistics are not);
- an operand of elementwise arithmetic, or what only moves data (a table that Gather reads, a token that Concat
  appends), when it has more than one element. A single number is an epsilon, a bound, a pad value or a factor.

A constant that holds an infinity or a number beyond ``MASK`` is a mask.
"""

from __future__ import annotations

import numpy as np

from graphpress.ir import DataType, Node, Value, constant, is_constant
from graphpress.ops import lookup
from graphpress.ops.spec import Role

MASK = 1e4
"""Numbers from here on count as infinity: what is added to attention scores to hide them."""

_LEARNED = {
    "BatchNormalization": (1, 2), "InstanceNormalization": (1, 2), "GroupNormalization": (1, 2),
    "LayerNormalization": (1, 2), "RMSNormalization": (1,), "PRelu": (1,),
    "LSTM": (1, 2, 3, 7), "GRU": (1, 2, 3), "RNN": (1, 2, 3),
}  # fmt: skip
"""Inputs that hold learned numbers, however many they are, beside those of contractions."""

_WITHOUT_GRADIENT = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Mod", "Clip", "CastLike", "Dropout")
"""Elementwise operators whose operands are compared with or are settings."""


def is_trainable(value: Value) -> bool:
    """Whether a constant is a weight: something that was learned and can go on learning."""
    if not may_train(value):
        return False
    uses = [use for use in value.uses() if use.node.op_type != "Shape"]
    array = constant(value)
    assert array is not None
    if not uses or not all(_learned(use.node, use.idx, array.size) for use in uses):
        return False
    return bool((np.abs(array.astype(np.float32)) < MASK).all())


def may_train(value: Value) -> bool:
    """Whether a value is an initializer with a name, of a float type that gradients can have, and no graph output."""
    floats = (DataType.FLOAT, DataType.DOUBLE, DataType.FLOAT16, DataType.BFLOAT16)
    return is_constant(value) and value.is_initializer() and not value.is_graph_output() and value.dtype in floats


def _learned(node: Node, index: int, size: int) -> bool:
    spec = lookup(node.op_type, node.domain)
    if spec is None:
        return False
    if node.op_type in _LEARNED:
        return index in _LEARNED[node.op_type]
    place = spec.quantization
    if place.role is Role.COMPUTE:
        return place.weight is None or index in (0, place.weight, place.bias)
    if place.role is Role.MOVES_DATA:
        return size > 1 and (place.shared is None or index in place.shared)
    return size > 1 and spec.elementwise and node.op_type not in _WITHOUT_GRADIENT
