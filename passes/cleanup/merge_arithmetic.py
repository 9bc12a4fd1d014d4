"""Combine constants along a chain.

    (x + a) + b = x + (a + b)      (x - a) + b = x + (b - a)      and so on for + and -
    (x * a) * b = x * (a * b)      (x / a) * b = x * (b / a)      and so on for * and /

Floating-point only: the result differs by rounding, about one unit in the last place. The combined constant is
computed in double precision.

Left alone: an inner result with another reader, constants on the left of - or /, and constants whose combination is
larger than both. Refused: a combined constant that overflows or, for products, vanishes in its type, and a large one
that is added and taken back, which rounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphpress.ir import Editor, Match, Node, Refusal, Value, constant, input_of, producer
from graphpress.ir.encoding import encoding_of, is_annotated
from graphpress.manager.contract import RewritePass
from graphpress.passes._operands import is_private

SUMS, PRODUCTS = ("Add", "Sub"), ("Mul", "Div")


@dataclass(frozen=True)
class MergeArithmetic(RewritePass):
    """Lossless up to rounding: one pass over the data less."""

    name: ClassVar[str] = "merge_arithmetic"
    root_ops: ClassVar[tuple[str, ...]] = (*SUMS, *PRODUCTS)

    def match(self, node: Node) -> Match | Refusal | None:
        """Find two constants one after the other."""
        family = SUMS if node.op_type in SUMS else PRODUCTS
        outer = _operand_and_constant(node)
        first = None if outer is None else producer(outer[0], *family)
        inner = None if first is None else _operand_and_constant(first)
        if outer is None or first is None or inner is None or not is_private(outer[0]):
            return None
        wide = _combined(first.op_type, inner[1], node.op_type, outer[1])
        if wide.size > max(inner[1].size, outer[1].size):
            return None
        if family is SUMS and _rounds(inner[1], outer[1], wide):
            return Refusal.at(node, "it takes back a constant so large that adding it rounds to whole numbers")
        with np.errstate(all="ignore"):
            combined = wide.astype(inner[1].dtype)
        if not np.isfinite(combined).all() or (family is PRODUCTS and not _is_normal(combined)):
            return Refusal.at(node, "its constant combined with the one before it leaves the range of the type")
        return Match(node=node, first=first, source=inner[0], combined=combined, op_type=family[0])

    def rewrite(self, match: Match, edit: Editor) -> None:
        """Let one operator apply the combined constant."""
        old = match.node
        value = edit.add_constant_for(old, match.combined, f"{old.outputs[0].name}_combined")
        new = edit.add_node(match.op_type, [match.source, value], before=old)
        edit.copy_type(old.outputs[0], new.outputs[0])
        edit.replace(old.outputs[0], new.outputs[0])
        edit.remove(old, match.first)


def _operand_and_constant(node: Node) -> tuple[Value, np.ndarray] | None:
    variable, operand = input_of(node, 0), input_of(node, 1)
    if variable is None or operand is None or node.attributes:
        return None
    if node.op_type in ("Add", "Mul") and constant(variable) is not None:
        variable, operand = operand, variable
    array = None if encoding_of(operand) is not None or is_annotated(node) else constant(operand)
    if array is None or array.dtype.kind != "f" or constant(variable) is not None:
        return None
    return variable, array


def _combined(first: str, a: np.ndarray, second: str, b: np.ndarray) -> np.ndarray:
    """The constant to add or to multiply by, in double precision."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(all="ignore"):
        if first in SUMS:
            return np.asarray((a if first == "Add" else -a) + (b if second == "Add" else -b))
        return np.asarray((a if first == "Mul" else 1 / a) * (b if second == "Mul" else 1 / b))


def _rounds(a: np.ndarray, b: np.ndarray, total: np.ndarray) -> bool:
    """Whether the sum is an idiom for rounding: x + 2²³ - 2²³ is x to the nearest integer in float32."""
    large = np.maximum(np.abs(a.astype(np.float64)), np.abs(b.astype(np.float64)))
    return bool(np.any((large >= 2.0 ** (np.finfo(a.dtype).nmant - 1)) & (np.abs(total) <= large / 2)))


def _is_normal(array: np.ndarray) -> bool:
    return bool((np.abs(array) >= np.finfo(array.dtype).tiny).all())
