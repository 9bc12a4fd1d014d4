"""How a node follows when axes of what it reads and writes lose positions.

Constants that lie along an axis are cut by whoever removes positions. What is left are the numbers a node carries:
counts of groups and heads, target shapes, bounds, paddings, indices. A rule rewrites those that concern a shrunken
axis and no other: a number it does not touch may hold for any size of a dynamic axis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graphpress.ir import Attr, Editor, NodeView, Value

Mask = np.ndarray
"""Which positions of an axis stay: boolean."""

Masks = tuple[np.ndarray | None, ...]
"""One mask per axis of a tensor, None where the axis is whole."""


@dataclass(frozen=True)
class Shrink:
    """A node, with shapes as before, and what its inputs and outputs lose.

    Args:
        node: the node.
        reads: masks of each input, None where the input loses nothing.
        writes: masks of each output.
        edit: the only way to change the node.
    """

    node: NodeView
    reads: tuple[Masks | None, ...]
    writes: tuple[Masks | None, ...]
    edit: Editor

    def read(self, index: int, axis: int) -> Mask:
        """Which positions of an input's axis stay."""
        masks = self.reads[index] if index < len(self.reads) else None
        mask = None if masks is None else masks[axis]
        return np.ones(self.node.input_shape(index)[axis], bool) if mask is None else mask

    def lost(self, output: int = 0) -> dict[int, Mask]:
        """The axes of an output that shrink, with their masks."""
        masks = self.writes[output] or ()
        return {axis: mask for axis, mask in enumerate(masks) if mask is not None}

    def write(self, output: int, axis: int) -> Mask:
        """Which positions of an output's axis stay."""
        return self.lost(output).get(axis, np.ones(self.node.output_shape(output)[axis], bool))

    def set_attributes(self, **attributes: Attr | int | float | str | Sequence[int] | None) -> None:
        """Set attributes of the node, or take those away that are None."""
        self.edit.set_attributes(self.node.node, **attributes)

    def set_entries(self, name: str, index: int, entries: Mapping[int, int]) -> None:
        """Overwrite some entries of a vector of integers that is an attribute or a constant.

        Args:
            name: the attribute in older operator sets.
            index: the input in newer ones.
            entries: new number by position.
        """
        if not entries:
            return
        numbers = list(self.node.integers(name, index) or ())
        for place, number in entries.items():
            numbers[place] = number
        self.set_integers(name, index, numbers)

    def set_sizes(self, name: str, index: int, lost: Mapping[int, Mask]) -> None:
        """Let the sizes in a vector follow, whether the vector is known or computed at run time.

        Args:
            name: the attribute in older operator sets.
            index: the input in newer ones.
            lost: by position in the vector, the mask of its axis.
        """
        if self.node.constant(index) is None:
            self.scale_entries(index, {place: (int(mask.sum()), len(mask)) for place, mask in lost.items()})
        else:
            self.set_entries(name, index, {place: int(mask.sum()) for place, mask in lost.items()})

    def scale_entries(self, index: int, entries: Mapping[int, tuple[int, int]]) -> None:
        """Scale some entries of a vector of sizes that is computed at run time.

        A size may hold the batch as well (heads times samples), so it is multiplied rather than replaced. Entries of 0
        or below stand for sizes that are copied or inferred, and stay; so does 1, which broadcasts.

        Args:
            index: the input.
            entries: by position, how many positions stay, of how many.
        """
        computed = self.node.inputs[index]
        if not entries or computed is None:
            return
        kept, before = np.ones((2, self.node.input_shape(index)[0]), np.int64)
        for place, (stay, total) in entries.items():
            kept[place], before[place] = stay, total
        whole = self._compute("Mul", computed, kept)
        scaled = self._compute("Div", whole, before)
        counts = self._compute("Greater", computed, np.ones(1, np.int64))
        chosen = self.edit.add_node("Where", [counts, scaled, computed], before=self.node.node).outputs[0]
        self.edit.copy_type(computed, chosen)
        self.edit.set_input(self.node.node, index, chosen)

    def _compute(self, op_type: str, value: Value, numbers: np.ndarray) -> Value:
        operand = self.edit.add_constant_for(self.node.node, numbers, f"{self.node.name or self.node.op_type}_sizes")
        return self.edit.add_node(op_type, [value, operand], before=self.node.node).outputs[0]

    def set_integers(self, name: str, index: int, numbers: Sequence[int]) -> None:
        """Write a whole vector of integers: as attribute if it is one now, else as a constant input of its type."""
        if name in self.node.attributes:
            self.set_attributes(**{name: list(numbers)})
        else:
            before = self.node.constant(index)
            array = np.array(numbers, np.int64 if before is None else before.dtype)
            self.edit.own_constant(self.node.node, index, array, f"{self.node.name or name}_{name}")


def ranks(mask: Mask) -> np.ndarray:
    """New position of each old one that stays (for the others, of the next that does)."""
    return np.asarray(np.cumsum(mask) - mask)


def count_blocks(mask: Mask, blocks: int) -> int:
    """How many of the equal blocks that an axis falls into keep a position."""
    return int(mask.reshape(blocks, -1).any(axis=1).sum())
