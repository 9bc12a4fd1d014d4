"""What a layer should compute: the start model's result, restricted to what is still there.

    y → (+ constant, · constant, BatchNormalization)* → Add(·, other)  = z

Where the result goes into a sum with a branch that does not depend on it (a residual addition), the better aim is the
start model's sum less the other branch as it is now: what went wrong in the layers before is corrected too, instead of
being carried along (He et al., arXiv 1707.06168, section 3.3). Channel-wise affine nodes in between are undone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from graphpress.analysis.linear import as_read, constant_operand
from graphpress.coupling.kept import Kept
from graphpress.ir import (
    Node,
    Value,
    constant,
    float_attribute,
    int_attribute,
    is_constant,
    is_standard,
    label,
    rank_of,
)
from graphpress.passes._kept import restrict

_SMALLEST = 1e-12


@dataclass(frozen=True)
class FitTarget:
    """What a layer aims at.

    Args:
        name: of the start model's value.
        other: what is subtracted from it, of the changed model; None for nothing.
        adder: the node that adds the two.
        between: affine nodes from the layer's result to the sum, in order.
    """

    name: str
    other: Value | None = None
    adder: Node | None = None
    between: tuple[Node, ...] = ()

    def rows_from(self, start: np.ndarray, now: Mapping[str, np.ndarray], kept: Mapping[str, Kept]) -> np.ndarray:
        """The target array, from the start model's value and the changed model's values."""
        wanted = restrict(start, kept.get(self.name))
        if self.other is not None and self.adder is not None:
            index = next(index for index, value in enumerate(self.adder.inputs) if value is self.other)
            wanted = wanted - as_read(self.adder, index, now[label(self.other)])
        for node in reversed(self.between):
            wanted = _undone(node, wanted)
        return wanted


def own_target(result: Value) -> FitTarget:
    """The start model's result of the same node."""
    return FitTarget(label(result))


def sum_target(result: Value) -> FitTarget | None:
    """The sum that the result goes into, or None where it goes elsewhere."""
    between: list[Node] = []
    value, maker = result, result.producer()
    while len(value.uses()) == 1 and not value.is_graph_output():
        (use,) = value.uses()
        node = use.node
        if maker is None or node.graph is not maker.graph:
            return None
        if is_standard(node, "Add") and not any(is_constant(operand) for operand in node.inputs):
            other = node.inputs[1 - use.idx]
            fits = other is not None and other is not value and rank_of(other) in (None, rank_of(value))
            return FitTarget(label(node.outputs[0]), other, node, tuple(between)) if fits else None
        if not _is_affine(node, use.idx):
            return None
        between.append(node)
        value = node.outputs[0]
    return None


def _is_affine(node: Node, index: int) -> bool:
    """Whether the node scales and shifts by constants, and can be undone."""
    if is_standard(node, "Add"):
        return constant_operand(node) == 1 - index
    if is_standard(node, "Mul"):
        return constant_operand(node) == 1 - index and _far_from_zero(constant(node.inputs[1 - index]))
    if not is_standard(node, "BatchNormalization") or index or int_attribute(node, "training_mode", 0):
        return False
    return all(is_constant(value) for value in node.inputs[1:]) and _far_from_zero(constant(node.inputs[1]))


def _far_from_zero(array: np.ndarray | None) -> bool:
    return array is not None and array.dtype.kind == "f" and bool(np.all(np.abs(array) > _SMALLEST))


def _undone(node: Node, array: np.ndarray) -> np.ndarray:
    """What the affine node turned into ``array``."""
    if node.op_type == "BatchNormalization":
        scale, shift, mean, variance = (
            np.asarray(constant(value)).reshape(-1, *(1,) * (array.ndim - 2)) for value in node.inputs[1:]
        )
        deviation = np.sqrt(variance + np.float32(float_attribute(node, "epsilon", 1e-5)))
        return np.asarray((array - shift) / scale * deviation + mean)
    index = constant_operand(node)
    assert index is not None
    operand = as_read(node, index, np.asarray(constant(node.inputs[index])))
    return np.asarray(array - operand if node.op_type == "Add" else array / operand)
