"""Additions behind a product: its sum flows in unrounded, so that only the other operand is worth encoding.

    y = (W ∗ x) + skip      the kernel that computes W ∗ x adds before it rounds: only ``skip`` is read from memory

A value is an accumulator as long as nothing but additions of constants and changes of view stand between it and the
product, each with one reader. Where both operands are accumulators, the product computed first has to be written
before the other can add it: that one is the skip.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from graphpress.ir import Graph, Node, Value, has_one_use, is_constant, is_standard

VIEWS = ("Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


class Accumulation(NamedTuple):
    """An addition inside the kernel of a product: the product, and the index of the other operand.

    The index is None where that operand is a constant.
    """

    product: Node
    skip: int | None


def accumulations(graph: Graph, products: tuple[str, ...]) -> Mapping[Node, Accumulation]:
    """The additions of a graph behind one of these operators, in graph order."""
    position = {node: index for index, node in enumerate(graph)}
    additions = {}
    for node in position:
        if is_standard(node, "Add"):
            behind = [accumulating_product(value, products) for value in node.inputs]
            sums = [
                (position[product], index)
                for index, product in enumerate(behind)
                if product is not None and product in position
            ]
            if sums:
                _, index = max(sums)
                product, skip = behind[index], 1 - index
                assert product is not None
                additions[node] = Accumulation(product, None if is_constant(node.inputs[skip]) else skip)
    return additions


def accumulating_product(value: Value | None, products: tuple[str, ...]) -> Node | None:
    """The product whose sum reaches ``value`` unrounded and unread by others, or None."""
    while value is not None and has_one_use(value):
        node = value.producer()
        if node is None or is_standard(node, *products):
            return node
        value = _carried(node)
    return None


def _carried(node: Node) -> Value | None:
    """The operand that ``node`` passes on without rounding."""
    if is_standard(node, *VIEWS):
        return node.inputs[0]
    if is_standard(node, "Add"):
        computed = [value for value in node.inputs if not is_constant(value)]
        return computed[0] if len(computed) == 1 else None
    return None
