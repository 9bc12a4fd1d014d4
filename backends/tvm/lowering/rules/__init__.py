"""How nodes become kernels: one rule an operator, a file for each family."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from graphpress.backends.tvm.lowering.rules import (
    attention,
    elementwise,
    gather,
    joining,
    linear,
    movement,
    normalization,
    packed_weights,
    padding,
    pooling,
    recurrent,
    reduction,
    resizing,
    rotary,
    selection,
    slicing,
    spatial,
    transposed,
    windowing,
)
from graphpress.backends.tvm.lowering.rules.rule import Rule

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        **attention.RULES,
        **elementwise.RULES,
        **gather.RULES,
        **joining.RULES,
        **linear.RULES,
        **movement.RULES,
        **normalization.RULES,
        **packed_weights.RULES,
        **padding.RULES,
        **pooling.RULES,
        **recurrent.RULES,
        **reduction.RULES,
        **resizing.RULES,
        **rotary.RULES,
        **selection.RULES,
        **slicing.RULES,
        **spatial.RULES,
        **transposed.RULES,
        **windowing.RULES,
    }
)
"""Rules by operator (``operator_key``)."""
