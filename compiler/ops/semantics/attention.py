"""The attributes of Attention.

    y = softmax(softcap(scale · q kᵀ) + bias) v

Heads and width share an axis in tensors of three axes, and queries may share the heads of keys and values in groups. A
query whose keys are all forbidden gives zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from graphpress.ir import DataType, NodeView


@dataclass(frozen=True)
class AttentionAttributes:
    """What a node says of its attention.

    Args:
        query_heads: heads of the query where heads and width share an axis.
        key_heads: those of keys and values.
        scale: of the scores; None for one over the root of the width.
        softcap: bound of the scores; 0 for none.
        precision: type in which the softmax is taken, if the query's is less precise; None for the query's.
        shown: which stage of the scores is the fourth output: raw, capped, with the bias, or after the softmax.
        causal: whether a query sees no key after its own.
        behind: a query sees so many positions before its own at most; -1 for all.
        ahead: and so many after its own, none where it is causal; -1 for all.
    """

    query_heads: int
    key_heads: int
    scale: float | None
    softcap: float
    precision: DataType | None
    shown: int
    causal: bool
    behind: int
    ahead: int

    @staticmethod
    def of(node: NodeView) -> AttentionAttributes:
        """Those of a node."""
        scale, causal = node.number("scale", math.nan), node.flag("is_causal")
        return AttentionAttributes(
            query_heads=node.integer("q_num_heads", 1),
            key_heads=node.integer("kv_num_heads", 1),
            scale=None if math.isnan(scale) else scale,
            softcap=node.number("softcap", 0.0),
            precision=node.element_type("softmax_precision"),
            shown=node.integer("qk_matmul_output_mode", 0),
            causal=causal,
            behind=node.integer("left_window_size", -1),
            ahead=0 if causal else node.integer("right_window_size", -1),
        )

    @property
    def windowed(self) -> bool:
        """Whether a query sees some keys only, by their positions, and not just as a causal mask has it."""
        return self.behind >= 0 or (self.ahead >= 0 and not self.causal)
