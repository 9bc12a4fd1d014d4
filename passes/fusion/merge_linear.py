"""Multiply linear operators in line into one, where that has no more weights.

    conv(conv(x, V), W) = conv(x, V·W)      (x V + a) W + b = x (V W) + (a W + b)

Factors of a layer that do not pay: of a rank that is no less than half of the full one, or made to be trained
(over-parameterized layers; Arora et al., arXiv 1802.06509). A longer run is tried before a shorter one. Refuses where
an intermediate result is read elsewhere or quantized, a weight is shared, quantized or sparse, and where the border of
a padded convolution would differ (``graphpress.analysis.linear.composition``). Factors that save something stay apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphpress.analysis.linear import LinearOp
from graphpress.analysis.linear.composition import Composition, composed
from graphpress.ir import Editor, Match, Node, Refusal, Value, only_reader, producer
from graphpress.ir.encoding import is_encoded, is_overridden
from graphpress.ir.sparsity import sparsity_of
from graphpress.manager.contract import RewritePass
from graphpress.passes.fusion._linear import foldable

MERGED = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True)
class MergeLinear(RewritePass):
    """Lossless up to rounding: one layer in place of several without an activation between them."""

    name: ClassVar[str] = "merge_linear"
    root_ops: ClassVar[tuple[str, ...]] = MERGED

    def match(self, node: Node) -> Match | Refusal | None:
        """Fits the last of a run of operators whose product has no more weights than they have."""
        run, refusal = _run(node), None
        for start in range(len(run) - 1):
            ops = run[start:]
            whole = composed(ops) if _is_small(ops) else None
            is_smaller = isinstance(whole, Composition) and whole.size <= sum(op.stored_weight().size for op in ops)
            if isinstance(whole, Composition) and is_smaller and _is_finite(whole, ops[-1].stored_weight().dtype):
                return Match(ops=ops, whole=whole)
            refusal = refusal or (whole if isinstance(whole, Refusal) else None)
        return refusal

    def rewrite(self, match: Match, edit: Editor) -> None:
        """Put one operator in the place of the run."""
        first, last, whole = match.ops[0], match.ops[-1], match.whole
        node, dtype = last.node, last.stored_weight().dtype
        attributes = whole.attributes if last.is_convolution else {}
        made = edit.add_node(_kind(last, whole), [first.data], attributes, before=node, name=node.name)
        weight = edit.add_constant_for(made, _stored(whole, last).astype(dtype), last.weight.name)
        edit.set_input(made, first.weight_index, weight)
        if np.any(whole.bias):
            bias = whole.bias.reshape(-1).astype(dtype)
            edit.set_input(made, 2, edit.add_constant_for(made, bias, f"{node.name}_bias"))
        edit.replace(node.outputs[0], made.outputs[0])
        edit.remove(*(op.node for op in reversed(match.ops)))


def _run(node: Node) -> list[LinearOp]:
    """The operators in line that end here, the first one first."""
    run = list[LinearOp]()
    place: Node | None = node
    while place is not None and isinstance(op := foldable(place), LinearOp) and _fits(op, run):
        run.insert(0, op)
        place = _before(op.data, place)
    return run


def _fits(op: LinearOp, run: list[LinearOp]) -> bool:
    """Whether the operator is of the kind of those behind it, and one that computes what it is merged into can; zeros
    that were made on purpose are kept apart.
    """
    if sparsity_of(op.weight) is not None:
        return False
    return not run or (op.is_convolution == run[0].is_convolution and len(op.weight_shape) == len(run[0].weight_shape))


def _before(data: Value, reader: Node) -> Node | None:
    """What computes the data for this reader alone, and nothing rounds it between."""
    maker = producer(data, *MERGED)
    if maker is None or maker.graph is not reader.graph or not only_reader(data, reader):
        return None
    return None if is_encoded(data) or is_overridden(data) else maker


def _is_small(ops: list[LinearOp]) -> bool:
    """Whether the product can have no more weights, by the channels at both ends: it is only multiplied where so."""
    blocks = int(np.gcd.reduce([op.kernel_shape[0] for op in ops]))
    positions = int(np.prod([op.matrix_shape[1] // op.kernel_shape[1] for op in ops]))
    product = ops[0].channels_in * ops[-1].channels_out * positions // blocks
    return product <= sum(op.stored_weight().size for op in ops)


def _is_finite(whole: Composition, dtype: np.dtype) -> bool:
    """Whether the product is one in the type of the weights: in half precision it may overflow."""
    largest = np.finfo(dtype).max
    return bool(np.abs(whole.kernel).max(initial=0) <= largest and np.abs(whole.bias).max(initial=0) <= largest)


def _kind(last: LinearOp, whole: Composition) -> str:
    """The operator that a run becomes: of products a Gemm where there is a bias, which only a Gemm can have had."""
    if last.is_convolution:
        return "Conv"
    return "Gemm" if np.any(whole.bias) else "MatMul"


def _stored(whole: Composition, op: LinearOp) -> np.ndarray:
    """The kernel as a node without attributes stores it."""
    if not op.is_convolution:
        matrix: np.ndarray = whole.kernel[0]
        return matrix
    blocks, inputs, outputs, *sizes = whole.kernel.shape
    return np.ascontiguousarray(whole.kernel.swapaxes(1, 2)).reshape(blocks * outputs, inputs, *sizes)
