"""Attention of one query, which waits for its keys and values: each is read once, as it lies, for all heads of a group.

    over chunks of keys:   s = scores,   m' = max(m, max s),   p = exp(s - m'),
                           total = total · exp(m - m') + Σ p,  result = result · exp(m - m') + Σ p · value

so that no score is kept beyond its chunk (Milakov and Gimelshein 2018), whatever the length of the cache. A key is
multiplied along its width; as many vectors of such products as they have lanes become a vector of sums.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tvm import tirx

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder, Memory
from graphpress.backends.tvm.codegen.functions import exp
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.codegen.vectors import FLOAT, folded, splat, sums_of_each
from graphpress.backends.tvm.kernels.attention import LOWEST, AttentionKernel, score_of
from graphpress.backends.tvm.kernels.batched_product import batch_offset
from graphpress.backends.tvm.kernels.pieces import chunks
from graphpress.backends.tvm.kernels.register_tile import vectors_beside
from graphpress.backends.tvm.kernels.stages import Position, StageContext, run_stages

CHUNK = 8
"""Vectors of keys whose scores are kept."""
MOST_ROWS = 8
"""Heads that share what is read of a key, at most."""


@dataclass(frozen=True)
class DecodingAttention(AttentionKernel):
    """Attention of all heads of one query; the elements of a key follow each other, as do those of a value.

    Both widths are whole vectors. Causal attention sees the keys up to its edge.
    """

    @property
    def slack(self) -> int:
        """What a vector of the mask reads behind the last key."""
        return 0 if self.mask is None else 64

    @property
    def rows(self) -> int:
        """Heads of a task: they share keys and values."""
        group = self.sizes.heads // self.sizes.key_heads
        return max(rows for rows in range(1, MOST_ROWS + 1) if group % rows == 0)

    def task_grid(self, isa: Isa) -> tuple[int, int]:
        """Heads of all images, and tasks of one."""
        return self.sizes.batch * (self.sizes.heads // self.rows), 1

    def task(self, b: KernelBuilder, isa: Isa, memory: dict[str, Memory], task: Expr) -> None:
        """All keys and values, for some heads."""
        _Decoder(self, StageContext(b, isa, memory, isa.lanes), b.let(task * self.rows)).write()

    def seen(self, b: KernelBuilder) -> Expr:
        """Keys that the query sees."""
        keys = b.value(self.sizes.keys)
        if self.edge is None:
            return keys
        seen = b.value(self.edge) + 1
        return min(seen, keys) if isinstance(seen, int) and isinstance(keys, int) else b.let(tirx.min(seen, keys))


class _Decoder:
    """Writes the code of a task.

    Args:
        kernel: what is computed.
        place: where to.
        head: the first, among those of all images.
    """

    def __init__(self, kernel: DecodingAttention, place: StageContext, head: Expr) -> None:
        self.kernel, self.place, self.b, self.lanes = kernel, place, place.b, place.lanes
        self.head, self.rows, sizes, b = head, kernel.rows, kernel.sizes, place.b
        group = sizes.heads // sizes.key_heads
        shared = b.let(head // sizes.heads * sizes.key_heads + head % sizes.heads // group)
        heads, key_heads = (sizes.batch, sizes.heads), (sizes.batch, sizes.key_heads)
        self.key, self.value = (b.let(batch_offset(view, shared, key_heads)) for view in (kernel.key, kernel.value))
        self.queries = [b.let(batch_offset(kernel.query, head + row, heads)) for row in range(self.rows)]
        self.masks = [0] * self.rows
        if kernel.mask is not None:
            self.masks = [b.let(batch_offset(kernel.mask, head + row, heads)) for row in range(self.rows)]
        self.seen = kernel.seen(b)
        self.products = b.registers(self.rows * self.lanes * self.lanes, FLOAT)
        self.scores = b.registers(self.rows * CHUNK * self.lanes, FLOAT)
        self.largest, self.totals, self.found = (b.registers(self.rows * self.lanes, FLOAT) for _ in range(3))
        self.results = b.registers(self.rows * sizes.value_width, FLOAT)

    def write(self) -> None:
        """All chunks, then what was added up by its weights."""
        b, size = self.b, CHUNK * self.lanes
        for row in range(self.rows):
            self._put(self.largest, row, splat(LOWEST, self.lanes))
            self._put(self.totals, row, splat(0.0, self.lanes))
        with b.loop(self.rows * self.kernel.sizes.value_width // self.lanes, "vector") as vector:
            b.store(self.results, vector * self.lanes, splat(0.0, self.lanes), self.lanes)
        with b.loop((self.seen + (size - 1)) // size, "chunk") as chunk:
            first = b.let(chunk * size)
            keys = b.let(tirx.min(self.seen - first, size))
            self._chunk(first, keys)
        self._finish()

    def _chunk(self, first: Expr, keys: Expr) -> None:
        """Scores, their exponentials, and values.

        Args:
            first: key.
            keys: how many there are.
        """
        b, lanes = self.b, self.lanes
        vectors = b.let((keys + (lanes - 1)) // lanes)
        for row in range(self.rows):
            self._put(self.found, row, self._get(self.largest, row))
        with b.loop(vectors, "vector") as vector:
            self._scores(first, b.let(vector * lanes), keys)
        for row in range(self.rows):
            self._weigh(row, vectors)
        self._add_values(first, keys)

    # -- scores -----------------------------------------------------------------------------------------------------

    def _scores(self, first: Expr, start: Expr, keys: Expr) -> None:
        """Of a vector of keys; what lies behind the last counts nothing."""
        b, lanes, mask = self.b, self.lanes, self.kernel.mask
        with b.loop(tirx.min(keys - start, lanes), "key") as key:
            line = b.let(self.key + (first + start + key) * self.kernel.key.steps[3])
            for row, product in enumerate(self._products(line)):
                b.store(self.products, (row * lanes + key) * lanes, product, lanes)
        behind = tirx.Ramp(start, tirx.const(1, "int32"), lanes) >= splat(keys, lanes, "int32")
        for row in range(self.rows):
            products = [b.let(b.load(self.products, (row * lanes + key) * lanes, lanes)) for key in range(lanes)]
            mask_at = 0 if mask is None else self.masks[row] + (first + start) * mask.steps[3]
            score = b.let(score_of(self.kernel, self.place, sums_of_each(b, products, lanes), mask_at, lanes))
            score = b.let(b.select(behind, splat(float("-inf"), lanes), score))
            b.store(self.scores, row * (CHUNK * lanes) + start, score, lanes)
            self._put(self.found, row, tirx.max(self._get(self.found, row), score))

    def _products(self, line: Expr) -> list[Expr]:
        """A key by each query, along its width: sums in vectors."""
        b, lanes, sums = self.b, self.lanes, [splat(0.0, self.lanes)] * self.rows
        for start in range(0, self.kernel.sizes.width, lanes):
            key = b.let(b.load(self.place.memory["key"], line + start, lanes))
            sums = [
                b.let(total + key * b.load(self.place.memory["query"], query + start, lanes))
                for total, query in zip(sums, self.queries, strict=True)
            ]
        return sums

    def _weigh(self, row: int, vectors: Expr) -> None:
        """Scores of a row as exponentials; what was added up before is less by as much as the largest is more."""
        b, lanes = self.b, self.lanes
        largest = b.let(splat(folded(b, self._get(self.found, row), lanes, tirx.max), lanes))
        less = b.let(exp(b, b.let(self._get(self.largest, row) - largest), lanes))
        self._put(self.largest, row, largest)
        self._put(self.totals, row, self._get(self.totals, row) * less)
        with b.loop(vectors, "vector") as vector:
            at = b.let(row * (CHUNK * lanes) + vector * lanes)
            score = b.let(b.load(self.scores, at, lanes))
            power = exp(b, b.let(score - largest), lanes)
            power = b.let(tirx.Select(score < splat(LOWEST, lanes), splat(0.0, lanes), power))
            b.store(self.scores, at, power, lanes)
            self._put(self.totals, row, self._get(self.totals, row) + power)
        for at in self._vectors(row):
            b.store(self.results, at, b.load(self.results, at, lanes) * less, lanes)

    # -- values -----------------------------------------------------------------------------------------------------

    def _add_values(self, first: Expr, keys: Expr) -> None:
        """Each value of a chunk by its weights, as many of its vectors at a time as registers hold for all rows."""
        b, lanes, width = self.b, self.lanes, self.kernel.sizes.value_width
        for block in chunks(width // lanes, vectors_beside(self.place.isa, self.rows)):
            with b.loop(block.pieces, "block") as number:
                channel = b.let((block.start + number * block.size) * lanes)
                sums = b.registers(self.rows * block.size * lanes, FLOAT)
                places = [(row, vector) for row in range(self.rows) for vector in range(block.size)]
                for row, vector in places:
                    kept = b.load(self.results, row * width + channel + vector * lanes, lanes)
                    b.store(sums, (row * block.size + vector) * lanes, kept, lanes)
                with b.loop(keys, "key") as key:
                    self._add_value(sums, block.size, b.let(first + key), key, channel)
                for row, vector in places:
                    total = b.load(sums, (row * block.size + vector) * lanes, lanes)
                    b.store(self.results, row * width + channel + vector * lanes, total, lanes)

    def _add_value(self, sums: Memory, vectors: int, number: Expr, key: Expr, channel: Expr) -> None:
        b, lanes = self.b, self.lanes
        line = b.let(self.value + number * self.kernel.value.steps[2] + channel)
        values = [b.let(b.load(self.place.memory["value"], line + vector * lanes, lanes)) for vector in range(vectors)]
        for row in range(self.rows):
            weight = b.let(splat(b.load(self.scores, row * (CHUNK * lanes) + key), lanes))
            for vector, value in enumerate(values):
                at = (row * vectors + vector) * lanes
                b.store(sums, at, b.load(sums, at, lanes) + weight * value, lanes)

    def _finish(self) -> None:
        """A query that sees no key has a sum of zero."""
        b, lanes, sizes = self.b, self.lanes, self.kernel.sizes
        for row in range(self.rows):
            total = b.let(folded(b, self._get(self.totals, row), lanes, lambda left, right: left + right))
            factor = b.let(tirx.Select(total > splat(0.0, 1), splat(1.0, 1) / total, splat(0.0, 1)))
            head = b.let(self.head + row)
            for channel, at in zip(range(0, sizes.value_width, lanes), self._vectors(row), strict=True):
                position = Position(head // sizes.heads, 0, head % sizes.heads, channel)
                result = b.load(self.results, at, lanes) * splat(factor, lanes)
                result = run_stages(self.kernel.stages, self.place, result, position)
                self.kernel.store.write(self.place, result, position)

    def _vectors(self, row: int) -> Iterator[int]:
        """Where the vectors of a row's result lie."""
        width = self.kernel.sizes.value_width
        return iter(range(row * width, (row + 1) * width, self.lanes))

    # -- memory -----------------------------------------------------------------------------------------------------

    def _get(self, memory: Memory, row: int) -> Expr:
        return self.b.load(memory, row * self.lanes, self.lanes)

    def _put(self, memory: Memory, row: int, value: Expr) -> None:
        self.b.store(memory, row * self.lanes, value, self.lanes)
