"""Which steps are computed together, a stripe of rows at a time (``Stripes``), and how many rows of each are kept.

A value that does not fit the caches of the cores that compute it goes out to memory and comes back. Where its only
reader wants a few rows at a time, each thread computes those just before they are read:

    row y of a stage reads rows [y · stride - before, y · stride - before + span) of the stage before

so that the rows that a tile of the last stage takes follow from it, stage by stage, back to the first. A thread that
goes on to the next tile keeps what the next tile reads again; only where its share of the rows begins are rows computed
that another thread computes, too. Stripes are worth while where what is saved is more than that: bytes, written and
read, count as the multiply-accumulates that fit into the time that they take.

Kernels are the same as without stripes, and so are all results.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.codegen.vectors import FLOAT
from graphpress.backends.tvm.kernels.row_work import RowWork, row_work
from graphpress.backends.tvm.program import Buffer, Constant, Program, Source, Step, Stripes, StripeStage
from graphpress.backends.tvm.tiles import SECOND_LEVEL

MOST_STAGES = 16
"""Of stripes, as the runtime has it."""
SOURCE = "source"
"""The operand that stages read by rows."""
MACS_PER_BYTE = 1.5
"""Multiply-accumulates of floats in the time in which a byte comes from beyond a core's own caches."""
PER_FLOAT = 4
"""Multiply-accumulates of codes in the time of one of floats."""


class StageRows(NamedTuple):
    """What a stage does for one tile of the last.

    Args:
        first: of the rows that it computes.
        last: behind the last of them.
        low: of the rows that the next stage reads, now or later; may lie in the padding.
        high: behind the last that it reads now; likewise.
    """

    first: int
    last: int
    low: int
    high: int


def in_stripes(program: Program, isa: Isa, threads: int) -> list[Stripes]:
    """All steps of a program that are better computed together.

    Args:
        program: of steps that are computed one after another.
        isa: for what.
        threads: among which rows are meant to be shared.
    """
    parts = (part for chain in _chains(program, isa, threads) for part in _parts(chain, threads))
    return [Stripes(with_room(part)) for part in parts if len(part) > 1]


def rows_of_tile(works: Sequence[RowWork], tile: int, done: Sequence[int] | None = None) -> list[StageRows]:
    """The rows of all stages for a tile of the last.

    Args:
        works: of the stages.
        tile: its number.
        done: rows of each stage that have been computed, where a thread goes on; None where it begins.
    """
    last = works[-1]
    low, high = tile * last.rows, min((tile + 1) * last.rows, last.result.height)
    rows: list[StageRows] = []
    for number in reversed(range(len(works))):
        work = works[number]
        first = max(low, 0) // work.rows * work.rows if done is None else done[number]
        end = work.whole_tiles(high)
        rows.append(StageRows(first, end, low, high))
        stride, before, span = work.window
        low, high = first * stride - before, (end - 1) * stride - before + span
    return rows[::-1]


def with_room(stages: Sequence[StripeStage]) -> Sequence[StripeStage]:
    """The stages, each with room for the rows that the next one reads at a time."""
    works = [stage.work for stage in stages]
    rooms, done = [0] * len(works), None
    for tile in range(works[-1].tiles):
        begun = rows_of_tile(works, tile)
        gone_on = begun if done is None else rows_of_tile(works, tile, done)
        rooms = [max(sizes) for sizes in zip(rooms, map(_extent, begun), map(_extent, gone_on), strict=True)]
        done = [rows.last for rows in begun]
    return [replace(stage, room=room) for stage, room in zip(stages, [*rooms[:-1], 0], strict=True)]


def _extent(rows: StageRows) -> int:
    return max(rows.last, rows.high) - min(rows.first, rows.low)


# -- chains -------------------------------------------------------------------------------------------------------


def _chains(program: Program, isa: Isa, threads: int) -> Iterator[list[StripeStage]]:
    """Steps, each of which is the only reader of the one before, by rows, of what does not fit the cores' caches."""
    touched = _touched(program)
    chain: list[StripeStage] = []
    for step in program.steps:
        work = row_work(step.kernel, isa)
        goes_on = chain and work is not None and _follows(chain[-1], step, work, touched)
        if chain and not (goes_on and _streamed(chain[-1], threads)):
            yield chain
            chain = []
        if work is not None:
            chain.append(StripeStage(step, work))
    yield chain


def _touched(program: Program) -> dict[Source, list[tuple[Step, str]]]:
    """Who reads and writes what, and as which operand."""
    touched: dict[Source, list[tuple[Step, str]]] = {}
    for step in program.steps:
        for name, source in step.operands.items():
            touched.setdefault(source, []).append((step, name))
    return touched


def _follows(
    before: StripeStage, step: Step, work: RowWork, touched: Mapping[Source, Sequence[tuple[Step, str]]]
) -> bool:
    """Whether a step reads the rows of the one before, which nobody else does, and as they are written."""
    value = before.step.result
    if not isinstance(value, Buffer) or value.keeps or value.plane.is_part:
        return False
    alone = touched[value] == [(before.step, before.step.kernel.operands[-1].name), (step, SOURCE)]
    alike = value.plane == before.work.result == work.source
    return alone and alike and before.step.images == step.images == value.images


def _streamed(stage: StripeStage, threads: int) -> int:
    """Bytes of an image of a result that do not fit the caches of the cores that compute it."""
    assert isinstance(stage.step.result, Buffer)
    return max(0, stage.step.result.bytes // stage.step.images - threads * SECOND_LEVEL // 2)


# -- what is worth while --------------------------------------------------------------------------------------------


def _parts(chain: Sequence[StripeStage], threads: int) -> Iterator[Sequence[StripeStage]]:
    """A chain, cut so that as much as possible is saved."""
    best: list[tuple[float, int]] = [(0.0, 0)]
    for end in range(1, len(chain) + 1):
        starts = range(max(0, end - MOST_STAGES), end)
        best.append(max((best[start][0] + _saved(chain[start:end], threads), start) for start in starts))
    end = len(chain)
    while end:
        start = best[end][1]
        yield chain[start:end]
        end = start


def _saved(stages: Sequence[StripeStage], threads: int) -> float:
    """Multiply-accumulates that stripes save; less than nothing where they cost more, or do not fit a core's cache."""
    if len(stages) == 1:
        return 0.0
    if sum(map(_resident, with_room(stages))) > SECOND_LEVEL:
        return -np.inf
    works = [stage.work for stage in stages]
    again = zip(works, _rows_computed(works, threads), strict=True)
    costs = sum((rows - work.result.height) * _float_macs(work) for work, rows in again)
    return 2 * MACS_PER_BYTE * sum(_streamed(stage, threads) for stage in stages[:-1]) - costs


def _float_macs(work: RowWork) -> float:
    """Of a row."""
    return work.macs if work.source.dtype == FLOAT else work.macs / PER_FLOAT


def _resident(stage: StripeStage) -> int:
    """Bytes that a thread comes back to, tile by tile."""
    constants = (source.array.nbytes for source in stage.step.operands.values() if isinstance(source, Constant))
    return stage.kept_bytes + sum(constants)


def _rows_computed(works: Sequence[RowWork], threads: int) -> list[int]:
    """Rows of each stage that all threads compute, each an equal share of the tiles."""
    tiles, totals = works[-1].tiles, [0] * len(works)
    for thread in range(threads):
        first, last = tiles * thread // threads, tiles * (thread + 1) // threads
        if first < last:
            ends = zip(totals, rows_of_tile(works, first), rows_of_tile(works, last - 1), strict=True)
            totals = [total + end.last - begin.first for total, begin, end in ends]
    return totals
