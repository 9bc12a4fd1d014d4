"""Let a Gemm read what is transposed as it is, and make one of a product of matrices where that saves a Transpose.

    Gemm(Aᵀ, B, C) = Gemm(A, B, C, transA=1)        Gemm(A, Bᵀ, C) = Gemm(A, B, C, transB=1)
    A·Bᵀ = Gemm(A, B, transB=1)

Refuses before opset 11, whose Gemm cannot do without C, for a MatMul.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphpress.ir import Editor, Match, Node, Refusal, Value, int_attribute, opset_of, producer, rank_of
from graphpress.manager.contract import RewritePass
from graphpress.passes._operands import is_unread
from graphpress.passes.fusion._operator import encoded_within, needs_opset
from graphpress.passes.fusion.fuse_matmul_add import GEMM_TYPES

BIAS_IS_OPTIONAL = 11


@dataclass(frozen=True)
class FuseGemmTranspose(RewritePass):
    """Lossless: the transposed copy is never made."""

    name: ClassVar[str] = "fuse_gemm_transpose"
    root_ops: ClassVar[tuple[str, ...]] = ("Gemm", "MatMul")
    emits: ClassVar[str | None] = "Gemm"

    def match(self, node: Node) -> Match | Refusal | None:
        """Fits a product of matrices of which at least one is the transposed of a variable."""
        straight = [_straight(value) for value in node.inputs[:2]]
        if straight == [None, None]:
            return None
        transposes = [producer(value, "Transpose") for value in node.inputs[:2] if _straight(value) is not None]
        if refusal := encoded_within([node, *filter(None, transposes)], node):
            return refusal
        if node.op_type == "MatMul":
            if node.outputs[0].dtype not in GEMM_TYPES or any(rank_of(value) != 2 for value in node.inputs):
                return None
            if (opset_of(node) or 0) < BIAS_IS_OPTIONAL:
                return needs_opset(node, BIAS_IS_OPTIONAL)
        return Match(product=node, straight=straight)

    def rewrite(self, match: Match, edit: Editor) -> None:
        """Read the straight matrix and turn the attribute round."""
        node = match.product
        attributes = {name: attribute.value for name, attribute in node.attributes.items()}
        inputs, transposes = list(node.inputs), []
        for index, name in enumerate(("transA", "transB")):
            if match.straight[index] is not None:
                transposes.append(producer(inputs[index], "Transpose"))
                inputs[index], attributes[name] = match.straight[index], 1 - int_attribute(node, name, 0)
        gemm = edit.add_node("Gemm", inputs, attributes, before=node, name=node.name)
        edit.replace(node.outputs[0], gemm.outputs[0])
        edit.remove(node)
        edit.remove(
            *(transpose for transpose in dict.fromkeys(transposes) if transpose is not None and is_unread(transpose))
        )


def _straight(value: Value | None) -> Value | None:
    """The matrix of which ``value`` is the transposed."""
    transpose = producer(value, "Transpose")
    if transpose is None or rank_of(transpose.inputs[0]) != 2:
        return None
    perm = transpose.attributes.get("perm")
    return transpose.inputs[0] if perm is None or tuple(perm.as_ints()) == (1, 0) else None
