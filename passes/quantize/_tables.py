"""Tables that are looked up row by row: integers with one scale a row, of which only the rows read are decoded.

    table[i] = s[i] · q[i]

No range has to be observed for that. A table that a product multiplies by as well (the head of a language model, tied
to its embedding) keeps the encoding of that product, and stays one constant: one scale a row of the table is one an
output of the product.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from graphpress.ir import Graph, Node, Refusal, constant, int_attribute, is_constant, is_standard, rank_of
from graphpress.ir.encoding import encoding_of, override_use, read_encoding, request_compute
from graphpress.manager.contract import Context
from graphpress.passes.quantize._encode import encode_use, weight_encoding
from graphpress.passes.quantize._ranges import has_weight_scale
from graphpress.targets import QuantizationPolicy

SMALLEST = 1 << 14
"""Numbers from which on a table saves more than the nodes cost that decode its rows."""


def encode_tables(graph: Graph, policy: QuantizationPolicy, context: Context) -> tuple[int, list[Refusal]]:
    """Encode the tables of a graph as far as the target looks rows of integers up.

    Returns:
        How many there were, and why others stay float.
    """
    count, refusals = 0, []
    for node in graph:
        if node.op_type not in policy.table_ops or not _is_table(node) or context.excluded(node):
            continue
        why = _why_not(node, policy)
        if why is None:
            _encode(node, policy)
            count += 1
        else:
            refusals.append(Refusal.at(node, why, "leave it float"))
    return count, refusals


def _is_table(node: Node) -> bool:
    """Whether it looks rows of a constant of floats up that is not encoded for it yet."""
    value = node.inputs[0] if is_standard(node) else None
    array = constant(value) if is_constant(value) and (rank_of(value) or 0) > 1 else None
    return array is not None and array.dtype == np.float32 and read_encoding(node, 0) is None


def _why_not(node: Node, policy: QuantizationPolicy) -> str | None:
    table = constant(node.inputs[0])
    assert table is not None
    if table.size < SMALLEST:
        return f"its table of {table.size} numbers is small: integers would save less than it costs to decode them"
    if not np.isfinite(table).all():
        return "its table has infinite or undefined numbers"
    if not has_weight_scale(table, policy):
        return f"its numbers are so small that {policy.scales} holds no scale for them"
    return None


def _encode(node: Node, policy: QuantizationPolicy) -> None:
    table = node.inputs[0]
    assert table is not None
    array = constant(table)
    assert array is not None
    if encoding_of(table) is not None:
        override_use(node, 0, None)
    else:
        axis = int_attribute(node, "axis", 0) % array.ndim if policy.per_channel else None
        encode_use(node, 0, weight_encoding(array, axis, replace(policy, reduced_range=False)))
    request_compute(node, "int8")
