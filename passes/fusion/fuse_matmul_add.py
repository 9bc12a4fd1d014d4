"""Join a product of matrices and the addition of its bias into one Gemm.

    A·B + C = Gemm(A, B, C)        A [M, K], B [K, N], C one of  scalar, [N], [1, N], [M, 1], [M, N]
    Gemm(A, B) + C = Gemm(A, B, C)

Refuses when the product is read elsewhere, when C might broadcast the product to a larger shape, and before opset 7.
Products of higher rank stay as they are: a Gemm would need two reshapes around it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphpress.ir import (
    DataType,
    Editor,
    Match,
    Node,
    Refusal,
    Value,
    dims_of,
    input_of,
    label,
    only_reader,
    opset_of,
    producer,
    rank_of,
)
from graphpress.manager.contract import RewritePass
from graphpress.passes.fusion._operands import orders
from graphpress.passes.fusion._operator import encoded_within, needs_opset

GEMM_BROADCASTS = 7
"""The first operator set whose Gemm broadcasts its third operand without an attribute."""
GEMM_TYPES = (DataType.FLOAT, DataType.DOUBLE, DataType.FLOAT16, DataType.BFLOAT16)


@dataclass(frozen=True)
class FuseMatmulAdd(RewritePass):
    """Lossless: the bias starts the accumulation instead of a pass over the result."""

    name: ClassVar[str] = "fuse_matmul_add"
    root_ops: ClassVar[tuple[str, ...]] = ("Add",)
    emits: ClassVar[str | None] = "Gemm"

    def match(self, node: Node) -> Match | Refusal | None:
        """Fits the sum of a product of two matrices and what broadcasts to its shape."""
        for product, bias in orders(node):
            matmul = producer(product, "MatMul", "Gemm")
            if matmul is None or bias is product or not _lacks_bias(matmul):
                continue
            if not only_reader(product, node):
                return Refusal.at(matmul, "its result has another reader")
            if refusal := encoded_within((matmul, node), node):
                return refusal
            if not _broadcasts_to(bias, product):
                return Refusal.at(node, f"{label(bias)} may not broadcast to the shape of the product")
            if (opset_of(node) or 0) < GEMM_BROADCASTS:
                return needs_opset(node, GEMM_BROADCASTS)
            return Match(add=node, matmul=matmul, bias=bias)
        return None

    def rewrite(self, match: Match, edit: Editor) -> None:
        """Put the Gemm in the place of the addition, where both operands are known."""
        matmul = match.matmul
        attributes = {name: attribute.value for name, attribute in matmul.attributes.items() if name != "beta"}
        inputs = [*matmul.inputs[:2], match.bias]
        gemm = edit.add_node("Gemm", inputs, attributes, before=match.add, name=matmul.name)
        edit.replace(match.add.outputs[0], gemm.outputs[0])
        edit.remove(match.add, matmul)


def _lacks_bias(matmul: Node) -> bool:
    if matmul.op_type == "Gemm":
        return input_of(matmul, 2) is None
    known = matmul.outputs[0].dtype or next((value.dtype for value in matmul.inputs if value and value.dtype), None)
    return known in GEMM_TYPES and all(rank_of(value) == 2 for value in matmul.inputs)


def _broadcasts_to(bias: Value, product: Value) -> bool:
    """Whether ``bias`` provably stretches to the product's shape, and not the product to the bias's."""
    ours, theirs = dims_of(bias), _dims(product)
    if ours is None or len(ours) > 2:
        return False
    return all(a == 1 or (a is not None and a == b) for a, b in zip(ours[::-1], theirs[::-1], strict=False))


def _dims(product: Value) -> tuple[int | None, int | None]:
    node = product.producer()
    assert node is not None
    rows, columns = (dims_of(value) or (None, None) for value in node.inputs[:2])
    trans_a, trans_b = (name in node.attributes and node.attributes[name].as_int() for name in ("transA", "transB"))
    return rows[1 if trans_a else 0], columns[0 if trans_b else 1]
