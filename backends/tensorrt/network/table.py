"""The one table of rules, and the operators that have none, with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from graphpress.backends.tensorrt.network import (
    attention,
    control,
    elementwise,
    layout,
    linear,
    norm,
    pooling,
    quantised,
    recurrent,
    reduce,
    resize,
    sampling,
    select,
    softmax,
    sources,
    unary,
)
from graphpress.backends.tensorrt.network.call import Rule

_FAMILIES = (
    attention,
    control,
    elementwise,
    layout,
    linear,
    norm,
    pooling,
    quantised,
    recurrent,
    reduce,
    resize,
    sampling,
    select,
    softmax,
    sources,
    unary,
)

_RANDOM = "an engine would not draw the numbers that the model draws"
_BITS = "TensorRT has no layers for the bits of integers"
_INTEGER = (
    "TensorRT has no products that stay integers; it computes with int8 between QuantizeLinear and DequantizeLinear"
)

WITHOUT_RULE: Mapping[str, str] = MappingProxyType(
    {
        "Bernoulli": _RANDOM,
        "BitShift": _BITS,
        "BitwiseAnd": _BITS,
        "BitwiseOr": _BITS,
        "BitwiseXor": _BITS,
        "ConvInteger": _INTEGER,
        "CumProd": "TensorRT accumulates sums only",
        "DynamicQuantizeLinear": "TensorRT takes no zero-points, and no uint8",
        "MatMulInteger": _INTEGER,
        "MaxRoiPool": "TensorRT has no layer that pools regions of interest",
        "Multinomial": _RANDOM,
        "RandomNormal": _RANDOM,
        "RandomNormalLike": _RANDOM,
        "RandomUniform": _RANDOM,
        "RandomUniformLike": _RANDOM,
        "Unique": "TensorRT has no layer that finds equal elements",
    }
)
"""Operators of the table of operators that TensorRT has no layers for, and why."""


@cache
def rules() -> Mapping[str, Rule]:
    """The rules by operator of the standard operator set.

    Raises:
        ValueError: two families have a rule for the same operator.
    """
    found: dict[str, Rule] = {}
    for family in _FAMILIES:
        entries = family.entries()
        if twice := sorted(found.keys() & entries.keys()):
            raise ValueError(f"{', '.join(twice)}: two rules, one of them in {family.__name__}")
        found.update(entries)
    return MappingProxyType(found)
