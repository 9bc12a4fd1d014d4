"""The largest or the smallest of a row, in their order: which they are, and what elements lie at given places.

    indices[…, j] = the first place of all that come behind those before, by number and then by place
    result[…, j]  = source[…, indices[…, j]]

One scalar loop over the row for each: right for any row, and fast where few are wanted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder, Memory
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.codegen.vectors import FLOAT, splat
from graphpress.backends.tvm.kernels.batched_product import batch_offset
from graphpress.backends.tvm.kernels.kernel import Pointer
from graphpress.backends.tvm.kernels.stages import RESULT
from graphpress.backends.tvm.kernels.view import StridedView

INDEX, PLACE = "int64", "int32"
"""Types of places: of results, and while counting."""


@dataclass(frozen=True)
class TopIndices:
    """Places of the largest or smallest.

    Args:
        source: floats ``[leading…, row]``.
        result: ``[leading…, count]``.
        leading: extents of the leading axes.
        extent: elements of a row.
        count: how many are wanted.
        largest: whether the largest are.
    """

    source: StridedView
    result: StridedView
    leading: tuple[int, ...]
    extent: int
    count: int
    largest: bool = True

    @property
    def operands(self) -> Sequence[Pointer]:
        """The rows, and places in them."""
        return [Pointer("source", FLOAT), Pointer(RESULT, INDEX)]

    def tasks(self, isa: Isa) -> int:
        """A task is a row."""
        return math.prod(self.leading)

    def task(self, b: KernelBuilder, isa: Isa, memory: dict[str, Memory], task: Expr) -> None:
        """The best of those behind the one before, again and again."""
        source, target = (b.let(batch_offset(view, task, self.leading)) for view in (self.source, self.result))
        numbers, places = b.registers(2, FLOAT), b.registers(2, PLACE)  # of the one before, and of the best so far
        b.store(numbers, 0, splat(float("inf"), 1))
        b.store(places, 0, tirx.const(-1, PLACE))
        with b.loop(self.count, "rank") as rank:
            b.store(numbers, 1, splat(float("-inf"), 1))
            b.store(places, 1, tirx.const(-1, PLACE))
            with b.loop(self.extent, "place") as place:
                self._compare(b, memory["source"], source + place * self.source.steps[-1], place, (numbers, places))
            best = b.let(b.load(places, 1))
            b.store(numbers, 0, b.load(numbers, 1))
            b.store(places, 0, best)
            within = tirx.max(best, tirx.const(0, PLACE)).astype(INDEX)
            b.store(memory[RESULT], target + rank * self.result.steps[-1], within)

    def _compare(
        self, b: KernelBuilder, source: Memory, at: Expr, place: int | Expr, best: tuple[Memory, Memory]
    ) -> None:
        """Keep an element that comes behind the one before, and ahead of the best so far."""
        numbers, places = best
        loaded = b.load(source, at)
        number = b.let(loaded if self.largest else splat(-1.0, 1) * loaded)
        before, best_number = (b.let(b.load(numbers, each)) for each in (0, 1))
        place = tirx.const(place, PLACE) if isinstance(place, int) else place
        behind = tirx.any(number < before, tirx.all(number == before, place > b.load(places, 0)))
        ahead = tirx.any(number > best_number, b.load(places, 1) < 0)
        with b.when(tirx.all(behind, ahead)):
            b.store(numbers, 1, number)
            b.store(places, 1, place)


@dataclass(frozen=True)
class TakeAlong:
    """Elements of rows at given places, which lie within them.

    Args:
        source: floats ``[leading…, row]``.
        indices: ``[leading…, count]``.
        result: the same, floats.
        leading: extents of the leading axes.
        count: how many are taken of a row.
    """

    source: StridedView
    indices: StridedView
    result: StridedView
    leading: tuple[int, ...]
    count: int

    @property
    def operands(self) -> Sequence[Pointer]:
        """The rows, the places, and the elements."""
        return [Pointer("source", FLOAT), Pointer("indices", INDEX), Pointer(RESULT, FLOAT)]

    def tasks(self, isa: Isa) -> int:
        """A task is a row."""
        return math.prod(self.leading)

    def task(self, b: KernelBuilder, isa: Isa, memory: dict[str, Memory], task: Expr) -> None:
        """One after another."""
        views = (self.source, self.indices, self.result)
        source, indices, target = (b.let(batch_offset(view, task, self.leading)) for view in views)
        with b.loop(self.count, "rank") as rank:
            place = b.let(b.load(memory["indices"], indices + rank * self.indices.steps[-1]).astype(PLACE))
            number = b.load(memory["source"], source + place * self.source.steps[-1])
            b.store(memory[RESULT], target + rank * self.result.steps[-1], number)
