"""Remove data movement that moves nothing.

    Transpose that keeps the order of all axes longer than 1      Pad by zero everywhere
    Slice of the whole, Reshape/Flatten/Squeeze/Unsqueeze/Expand/Tile to the shape the operand has
    Resize/Upsample by 1                                          Split into a single piece

Shapes are proven equal by what shape inference found: static sizes, or equal symbols. A Slice or Resize of the same
shape must also start at the front and step by one, or keep its pixels' centers. Where shapes are not known it does
nothing and reports nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from graphpress.ir import Editor, Match, Node, Refusal, constant, input_of, rank_of, static_shape, string_attribute
from graphpress.manager.contract import RewritePass
from graphpress.passes._operands import has_operand, ints_operand, keeps_order, permutation, same_shape
from graphpress.passes.cleanup._forward import forward, pass_through

ALIGNED = ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric")
"""Coordinate transformations that map every pixel to itself when the size stays."""
UNBOUNDED = (1 << 31) - 1


def _keeps_shape(node: Node) -> bool:
    source = node.inputs[0]
    return source is not None and same_shape(source, node.outputs[0])


def _stays(transpose: Node) -> bool:
    return keeps_order(transpose) and (_keeps_shape(transpose) or permutation(transpose) == _no_move(transpose))


def _no_move(transpose: Node) -> tuple[int, ...]:
    return tuple(range(len(permutation(transpose) or ())))


def _pads_nothing(node: Node) -> bool:
    pads = ints_operand(node, "pads", 1)
    return pads is not None and not any(pads)


def _takes_all(node: Node) -> bool:
    steps = ints_operand(node, "steps", 4)
    if has_operand(node, "steps", 4) and (steps is None or any(step != 1 for step in steps)):
        return False
    if _keeps_shape(node):
        return True
    starts, ends = ints_operand(node, "starts", 1), ints_operand(node, "ends", 2)
    return starts is not None and ends is not None and not any(starts) and all(end >= UNBOUNDED for end in ends)


def _repeats_nothing(node: Node) -> bool:
    repeats = ints_operand(node, "repeats", 1)
    return repeats is not None and all(count == 1 for count in repeats)


def _keeps_pixels(node: Node) -> bool:
    if node.op_type == "Upsample":
        factors = node.attributes["scales"].as_floats() if "scales" in node.attributes else constant(input_of(node, 1))
        return factors is not None and all(factor == 1 for factor in factors)
    return string_attribute(node, "coordinate_transformation_mode", "half_pixel") in ALIGNED and (
        static_shape(node.inputs[0]) is not None and _keeps_shape(node) and _scales_by_one(node)
    )


def _scales_by_one(node: Node) -> bool:
    scales = constant(input_of(node, 1 if len(node.inputs) == 2 else 2))
    return scales is None or scales.size == 0 or bool((scales == 1).all())


def _is_one_piece(node: Node) -> bool:
    return len(node.outputs) == 1 and rank_of(node.inputs[0]) != 0


CHECKS: dict[str, Callable[[Node], bool]] = {
    "Expand": _keeps_shape,
    "Flatten": _keeps_shape,
    "Pad": _pads_nothing,
    "Reshape": _keeps_shape,
    "Resize": _keeps_pixels,
    "Slice": _takes_all,
    "Split": _is_one_piece,
    "Squeeze": _keeps_shape,
    "Tile": _repeats_nothing,
    "Transpose": _stays,
    "Unsqueeze": _keeps_shape,
    "Upsample": _keeps_pixels,
}


@dataclass(frozen=True)
class RemoveNoopLayout(RewritePass):
    """Lossless: the same numbers at the same places, one copy less."""

    name: ClassVar[str] = "remove_noop_layout"
    root_ops: ClassVar[tuple[str, ...]] = tuple(CHECKS)

    def match(self, node: Node) -> Match | Refusal | None:
        """Find an operator whose result is its operand."""
        source = input_of(node, 0)
        if source is None or not CHECKS[node.op_type](node):
            return None
        return pass_through(node, source)

    def rewrite(self, match: Match, edit: Editor) -> None:
        """Let the readers read the operand."""
        forward(match, edit)
