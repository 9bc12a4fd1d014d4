"""Scaled dot-product attention in one kernel: scores, mask, softmax and weighted values of a tile of queries.

    result[q] = stages(Σ over k of p[q, k] · value[k] / Σ over k of p[q, k])
    p[q, k] = exp(s[q, k] - max over k of s[q, k]),    s = softcap(scale · query · keyᵀ) + mask

The scores of a tile never leave the first-level cache. Where attention is causal, keys that no query of the tile sees
are not looked at. A query that sees no key at all gives zero, as the operator has it: a key is unseen behind the causal
edge and where the mask is minus infinity.

Keys are read transposed, so that a vector holds the scores of neighboring keys; values are read as they lie. What lies
behind the last key is read and thrown away.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from tvm import tirx

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder, Memory
from graphpress.backends.tvm.codegen.extent import Extent
from graphpress.backends.tvm.codegen.functions import exp, tanh
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.codegen.vectors import FLOAT, folded, splat
from graphpress.backends.tvm.kernels.batched_product import VECTOR, batch_offset
from graphpress.backends.tvm.kernels.kernel import Pointer
from graphpress.backends.tvm.kernels.pieces import chosen, chunks, halvings, pieces
from graphpress.backends.tvm.kernels.plane import whole_vectors
from graphpress.backends.tvm.kernels.register_tile import ROWS, RegisterTile, vectors_beside
from graphpress.backends.tvm.kernels.stages import (
    RESULT,
    Destination,
    Position,
    StageContext,
    VectorStage,
    operands_of,
    run_stages,
)
from graphpress.backends.tvm.kernels.view import StridedView

LOWEST = float(np.finfo(np.float32).min)
SCRATCH = 96 << 10
"""Bytes of scores that a tile keeps on the stack."""


class AttentionSizes(NamedTuple):
    """Extents: of a batch, of the heads of queries, of those of keys and values, of lengths and widths."""

    batch: int
    heads: int
    key_heads: int
    queries: int
    keys: int
    width: int
    value_width: int


@dataclass(frozen=True)
class AttentionKernel:
    """Attention of all heads.

    Args:
        sizes: of everything.
        query: floats ``[batch, heads, queries, width]``.
        key: floats ``[batch, key_heads, width, keys]``; keys follow each other.
        value: floats ``[batch, key_heads, keys, value_width]``; elements of a value follow each other.
        store: what it writes; rows are queries, pixels heads, channels the elements of a value.
        scale: of the products.
        mask: ``[batch, heads, queries, keys]``: floats are added, of other types 0 hides a key; None for none.
        edge: of causal attention, how many keys the first query sees beside that of its own place; None sees all.
        softcap: bound of the scores; 0 for none.
        stages: after it.
    """

    sizes: AttentionSizes
    query: StridedView
    key: StridedView
    value: StridedView
    store: Destination
    scale: float
    mask: StridedView | None = None
    edge: int | None = None
    softcap: float = 0.0
    stages: tuple[VectorStage, ...] = ()
    takes_open: ClassVar[bool] = True

    @property
    def operands(self) -> Sequence[Pointer]:
        """Queries, keys, values, the mask, what the stages read, and the result."""
        fixed = [Pointer(name, FLOAT) for name in ("query", "key", "value")]
        mask = [] if self.mask is None else [Pointer("mask", self.mask.dtype)]
        return [*fixed, *mask, *operands_of(self.stages), Pointer(RESULT, self.store.plane.dtype)]

    @property
    def slack(self) -> int:
        """A block of vectors begins at the last key."""
        return 4 * VECTOR

    @property
    def rows(self) -> int:
        """Queries of a tile: as many as registers are made for, as long as their scores fit the scratch."""
        return int(max(1, min(ROWS, self.sizes.queries, SCRATCH // (4 * self.sizes.keys))))

    @property
    def bounded(self) -> bool:
        """Whether each query has a last key of its own, or the run says which is the last of all."""
        return self.edge is not None or isinstance(self.sizes.keys, Extent)

    def tasks(self, isa: Isa) -> int:
        """A task is a tile of queries of one head."""
        return math.prod(map(int, self.task_grid(isa)))

    def task_grid(self, isa: Isa) -> tuple[int, int]:
        """Heads of all images, and tiles of a head."""
        return self.sizes.batch * self.sizes.heads, pieces(self.sizes.queries, self.rows)

    def task(self, b: KernelBuilder, isa: Isa, memory: dict[str, Memory], task: Expr) -> None:
        """Everything of a tile."""
        tiles = int(self.task_grid(isa)[1])
        tile, head = b.let(task % tiles), b.let(task // tiles)
        place = StageContext(b, isa, memory, isa.lanes)
        for rows in chunks(self.sizes.queries, self.rows):
            with chosen(b, tile, rows, self.sizes.queries, self.rows):
                _QueryTile(self, place, head, b.let(tile * self.rows), rows.size).write()


class _QueryTile:
    """Writes the code of a tile of queries.

    Args:
        kernel: what is computed.
        place: where to.
        head: number of the head among those of all images.
        first: query of the head.
        rows: how many there are.
    """

    def __init__(self, kernel: AttentionKernel, place: StageContext, head: Expr, first: Expr, rows: int) -> None:
        self.kernel, self.place, self.b, self.lanes = kernel, place, place.b, place.lanes
        self.head, self.first, self.rows = head, first, rows
        sizes = kernel.sizes
        self.keys = self.b.value(sizes.keys)
        self.edge = None if kernel.edge is None else self.b.value(kernel.edge)
        self.width = vectors_beside(place.isa)
        self.row = whole_vectors(sizes.keys, self.lanes * self.width)
        self.scores = self.b.registers(rows * self.row, FLOAT)
        self.largest = self.b.registers(rows * self.lanes, FLOAT)
        self.totals = self.b.registers(rows * self.lanes, FLOAT)
        grouped = head // sizes.heads * sizes.key_heads + head % sizes.heads // (sizes.heads // sizes.key_heads)
        heads, key_heads = (sizes.batch, sizes.heads), (sizes.batch, sizes.key_heads)
        starts = {"query": (head, heads), "key": (grouped, key_heads), "value": (grouped, key_heads)}
        if kernel.mask is not None:
            starts["mask"] = head, heads
        self.views: dict[str, StridedView] = {name: getattr(kernel, name) for name in starts}
        self.starts = {name: self.b.let(batch_offset(self.views[name], *start)) for name, start in starts.items()}

    def write(self) -> None:
        """Scores and their largest, exponentials and their sums, values."""
        for row in range(self.rows):
            self._fill(self.largest, row, LOWEST)
            self._fill(self.totals, row, 0.0)
        for first, vectors in self._blocks():
            self._scores(first, vectors)
        largest = self._across(self.largest, tirx.max)
        for first, lanes in self._vectors():
            self._exponentials(first, lanes, largest)
        totals = self._across(self.totals, lambda left, right: left + right)
        self._weighted_values(totals)

    # -- keys that are looked at ------------------------------------------------------------------------------------

    @property
    def end(self) -> int | Expr:
        """The first key that no query of the tile sees."""
        if self.edge is None:
            return self.keys
        return tirx.max(tirx.min(self.first + (self.rows + self.edge), self.keys), 1)

    def _blocks(self) -> Iterator[tuple[Expr, int]]:
        """First key and vectors of each block of scores: exactly as many as there are keys, or as are seen."""
        if self.kernel.bounded:
            size = self.width * self.lanes
            with self.b.loop((self.end + (size - 1)) // size, "block") as number:
                yield self.b.let(number * size), self.width
            return
        for chunk in chunks(pieces(self.kernel.sizes.keys, self.lanes), self.width):
            with self.b.loop(chunk.pieces, "block") as number:
                yield self.b.let((chunk.start + number * chunk.size) * self.lanes), chunk.size

    def _vectors(self) -> Iterator[tuple[Expr, int]]:
        """First key and lanes of each vector of scores."""
        if self.kernel.bounded:
            with self.b.loop((self.end + (self.lanes - 1)) // self.lanes, "vector") as number:
                yield self.b.let(number * self.lanes), self.lanes
            return
        for chunk in halvings(self.kernel.sizes.keys, self.lanes):
            with self.b.loop(chunk.pieces, "vector") as number:
                yield self.b.let(chunk.start + number * chunk.size), chunk.size

    # -- steps ------------------------------------------------------------------------------------------------------

    def _scores(self, first: Expr, vectors: int) -> None:
        b, query, key = self.b, self.views["query"], self.views["key"]
        sums = RegisterTile(b, self.rows, vectors, self.lanes)
        at_query = b.let(self.starts["query"] + self.first * query.steps[2])
        at_key = b.let(self.starts["key"] + first * key.steps[3])
        with b.loop(self.kernel.sizes.width, "depth") as depth:
            column, line = b.let(at_query + depth * query.steps[3]), b.let(at_key + depth * key.steps[2])
            sums.add(
                lambda row: self._load("query", column + row * query.steps[2]),
                lambda vector: self._load("key", line + vector * self.lanes, self.lanes),
            )
        for row, vector in sums.places():
            start = b.let(first + vector * self.lanes)
            score = b.let(self._score(sums.sum(row, vector), row, start, self.lanes))
            b.store(self.scores, row * self.row + start, score, self.lanes)
            self._largest_of(row, start, score)

    def _score(self, product: Expr, row: int, key: Expr, lanes: int) -> Expr:
        """A product as a score."""
        b, kernel, at = self.b, self.kernel, 0
        if kernel.mask is not None:
            at = self.starts["mask"] + (self.first + row) * kernel.mask.steps[2] + key * kernel.mask.steps[3]
        score = score_of(kernel, self.place, product, at, lanes)
        if kernel.bounded:
            score = b.select(self._unseen(row, key, lanes), splat(float("-inf"), lanes), score)
        return score

    def _unseen(self, row: int, key: Expr, lanes: int) -> Expr:
        """Which keys lie behind the causal edge, or behind the last."""
        last = self.keys - 1
        if self.edge is not None:
            last = tirx.min(self.first + (row + self.edge), last)
        keys = tirx.Ramp(key, tirx.const(1, "int32"), lanes)
        return keys > splat(last, lanes, "int32")

    def _largest_of(self, row: int, start: Expr, score: Expr) -> None:
        """Keep the largest score; what lies behind the last key does not count."""
        keys = self.kernel.sizes.keys
        if not self.kernel.bounded and keys % self.lanes:
            lanes = tirx.Ramp(start, tirx.const(1, "int32"), self.lanes)
            score = tirx.Select(lanes < splat(keys, self.lanes, "int32"), score, splat(LOWEST, self.lanes))
        at = row * self.lanes
        self.b.store(self.largest, at, tirx.max(self.b.load(self.largest, at, self.lanes), score), self.lanes)

    def _exponentials(self, first: Expr, lanes: int, largest: Sequence[Expr]) -> None:
        b = self.b
        for row in range(self.rows):
            at = row * self.row + first
            score = b.let(b.load(self.scores, at, lanes))
            power = exp(b, score - splat(largest[row], lanes), lanes)
            if self.kernel.mask is not None or self.kernel.bounded:
                power = tirx.Select(score < splat(LOWEST, lanes), splat(0.0, lanes), power)
            power = b.let(power)
            b.store(self.scores, at, power, lanes)
            total = b.load(self.totals, row * self.lanes, lanes)
            b.store(self.totals, row * self.lanes, total + power, lanes)

    def _weighted_values(self, totals: Sequence[Expr]) -> None:
        factors = [self.b.let(self._reciprocal(total)) for total in totals]
        for part in halvings(self.kernel.sizes.value_width, self.lanes):
            for block in chunks(part.pieces, self.width):
                with self.b.loop(block.pieces, "block") as number:
                    channel = self.b.let(part.start + (block.start + number * block.size) * part.size)
                    sums = RegisterTile(self.b, self.rows, block.size, part.size)
                    self._weigh(sums, channel)
                    self._finish(sums, channel, factors)

    def _weigh(self, sums: RegisterTile, channel: Expr) -> None:
        """Add all values, each times its weights."""
        b, step = self.b, self.views["value"].steps[2]
        with b.loop(self.end, "key") as key:
            line = b.let(self.starts["value"] + key * step + channel)
            sums.add(
                lambda row: b.load(self.scores, row * self.row + key),
                lambda vector: self._load("value", line + vector * sums.lanes, sums.lanes),
            )

    def _reciprocal(self, total: Expr) -> Expr:
        """A query that sees no key has a sum of zero."""
        quotient = splat(1.0, 1) / total
        return tirx.Select(total > splat(0.0, 1), quotient, splat(0.0, 1))

    def _finish(self, sums: RegisterTile, channel: Expr, factors: Sequence[Expr]) -> None:
        sizes, place = self.kernel.sizes, self.place
        context = StageContext(place.b, place.isa, place.memory, sums.lanes)
        image, head = self.head // sizes.heads, self.head % sizes.heads
        for row, vector in sums.places():
            position = Position(image, self.first + row, head, channel + vector * sums.lanes)
            result = sums.sum(row, vector) * splat(factors[row], sums.lanes)
            self.kernel.store.write(context, run_stages(self.kernel.stages, context, result, position), position)

    # -- memory -----------------------------------------------------------------------------------------------------

    def _load(self, name: str, offset: Expr, lanes: int = 1) -> Expr:
        return self.b.load(self.place.memory[name], offset, lanes)

    def _fill(self, memory: Memory, row: int, number: float) -> None:
        self.b.store(memory, row * self.lanes, splat(number, self.lanes), self.lanes)

    def _across(self, memory: Memory, combine: Callable[[Expr, Expr], Expr]) -> list[Expr]:
        """A number of each row, from its lanes."""
        lanes = self.lanes
        return [
            self.b.let(folded(self.b, self.b.load(memory, row * lanes, lanes), lanes, combine))
            for row in range(self.rows)
        ]


def score_of(kernel: AttentionKernel, place: StageContext, product: Expr, mask_at: Expr, lanes: int) -> Expr:
    """Products of a query and some keys as scores, with the mask.

    Args:
        kernel: what is computed.
        place: where.
        product: of neighboring keys.
        mask_at: where the mask of the first lies, if there is one.
        lanes: keys.
    """
    b, mask = place.b, kernel.mask
    score = product * splat(kernel.scale, lanes)
    if kernel.softcap:
        score = tanh(b, score * splat(1 / kernel.softcap, lanes), lanes) * splat(kernel.softcap, lanes)
    if mask is None:
        return score
    spread = mask.steps[3] == 0
    number = b.load(place.memory["mask"], mask_at, 1 if spread else lanes)
    vector = splat(number, lanes) if spread else number
    if mask.dtype == FLOAT:
        return score + vector
    return tirx.Select(vector != splat(0, lanes, mask.dtype), score, splat(float("-inf"), lanes))
