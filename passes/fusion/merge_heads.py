"""Let attention split its operands into heads, and join them again, by itself.

    Attention(split(q), split(k), split(v))ᵀ joined = Attention(q, k, v, q_num_heads=h, kv_num_heads=g)

where split is Transpose[0,2,1,3](Reshape(x, [batch, length, heads, size])): the operator reads [batch, length,
heads·size] as well, and then nothing is copied into another order before and behind it. Refuses where an inner value is
read elsewhere; left alone where one of the three is not split so, as behind a rotary embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphpress.ir import Match, Node, Refusal, Value, input_of, int_attribute, present_outputs, producer, rank_of
from graphpress.passes._operands import constant_ints, permutation
from graphpress.passes.fusion._operands import only_reader_of_type, same_size, size
from graphpress.passes.fusion._operator import OperatorFusion

ORDER = (0, 2, 1, 3)
"""From [batch, length, heads, size] to [batch, heads, length, size], and back."""


@dataclass(frozen=True)
class MergeHeads(OperatorFusion):
    """Lossless: the same products, without the copies in between."""

    name: ClassVar[str] = "merge_heads"
    root_ops: ClassVar[tuple[str, ...]] = ("Attention",)
    emits: ClassVar[str | None] = "Attention"
    opset: ClassVar[int] = 23

    def find(self, node: Node) -> Match | Refusal | None:
        """Recognize what splits the operands and what joins the result."""
        if len(present_outputs(node)) != 1 or len(node.inputs) > 4:  # it keeps keys and values of earlier calls
            return None
        nodes = [node]
        sources = [_split(value, nodes) for value in node.inputs[:3]]
        end = _joined(node, nodes)
        heads = [size(value, 1) for value in node.inputs[:2]]
        if end is None or None in sources or not all(isinstance(count, int) for count in heads):
            return None
        kept = {name: attribute.value for name, attribute in node.attributes.items()}
        counts = {"q_num_heads": heads[0], "kv_num_heads": heads[1]}
        return Match(end=end, nodes=nodes, attributes={**kept, **counts}, inputs=[*sources, *node.inputs[3:]])


def _split(value: Value | None, nodes: list[Node]) -> Value | None:
    """The [batch, length, heads·size] of which the value is the heads."""
    transpose = producer(value, "Transpose")
    split = producer(None if transpose is None else transpose.inputs[0], "Reshape")
    if transpose is None or split is None or permutation(transpose) != ORDER:
        return None
    source, wide = split.inputs[0], split.outputs[0]
    if not _is_split(source, wide):
        return None
    nodes += [transpose, split]
    return source


def _joined(attention: Node, nodes: list[Node]) -> Node | None:
    """The node whose result the operator makes: [batch, length, heads·size], or what is reshaped to something else."""
    transpose = only_reader_of_type(attention, "Transpose")
    end = None if transpose is None else only_reader_of_type(transpose, "Reshape")
    if transpose is None or end is None or permutation(transpose) != ORDER:
        return None
    nodes.append(transpose)
    if _is_split(end.outputs[0], transpose.outputs[0]):
        nodes.append(end)
        return end
    target = constant_ints(input_of(end, 1))
    copies_at_most_two = target is None or 0 not in target[2:]
    return transpose if copies_at_most_two and int_attribute(end, "allowzero", 0) in (0, target is None) else None


def _is_split(joined: Value | None, wide: Value) -> bool:
    """Whether the second has the last axis of the first split in two, and all else as it is."""
    if joined is None or rank_of(joined) != 3 or rank_of(wide) != 4:
        return False
    heads, depth, both = size(wide, 2), size(wide, 3), size(joined, 2)
    known = isinstance(heads, int) and isinstance(depth, int) and isinstance(both, int) and heads * depth == both
    return known and all(same_size((joined, axis), (wide, axis)) for axis in (0, 1))
