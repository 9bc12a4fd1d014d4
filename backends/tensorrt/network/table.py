"""The one table of rules, and the operators that have none, with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from graphpress.backends.tensorrt.network.context import Rule
from graphpress.ops import FAMILIES, RuleRegistry

RULES: RuleRegistry[Rule] = RuleRegistry("graphpress.backends.tensorrt.network", (*FAMILIES, "control"))
"""The rule of each operator of the standard operator set."""

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
