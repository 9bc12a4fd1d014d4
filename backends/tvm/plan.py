"""Where buffers lie in the arena.

Buffers whose lifetimes do not overlap share memory. Halos are filled once, before the first run, so that a buffer with
one shares memory only with buffers of the same layout and fill: nobody else writes where its halo lies. What is
padded by constants keeps its border likewise, and shares with nobody.

Of results that only ever exist in stripes, each thread keeps a few rows in memory of its own, its scratch: it is used
anew by all stripes, one after another.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from graphpress.backends.tvm.program import NO_HALO, Buffer, Program, Stripes

ALIGNMENT = 64


class Lifetime(NamedTuple):
    """The first step that writes a buffer, and the last that reads it."""

    first: int
    last: int


@dataclass(frozen=True)
class MemoryPlan:
    """Places in the arena.

    Args:
        offsets: bytes from its start, by buffer, for one image.
        bytes: of the arena, for one image.
        scratch_bytes: of the rows that a thread keeps.
    """

    offsets: Mapping[Buffer, int]
    bytes: int
    scratch_bytes: int = 0


def plan_memory(program: Program) -> MemoryPlan:
    """Give each buffer a place: largest first, each at the lowest offset that is free throughout its life."""
    lives = lifetimes(program)
    slots = _slots(lives)
    placed: list[tuple[int, int, Sequence[Lifetime]]] = []
    offsets: dict[Buffer, int] = {}
    for buffers in sorted(slots, key=lambda slot: (-slot[0].bytes, lives[slot[0]])):
        size = _aligned(buffers[0].bytes)
        # A halo has to stay as it is from the first run to the last.
        spans = [Lifetime(0, len(program.steps))] if _stays(buffers[0]) else [lives[buffers[0]]]
        offset = _lowest(size, spans, placed)
        placed.append((offset, size, spans))
        offsets.update(dict.fromkeys(buffers, offset))
    end = max((offset + size for offset, size, _ in placed), default=0)
    return MemoryPlan(offsets, end, max((scratch_places(stripes)[-1] for stripes in program.stripes), default=0))


def scratch_places(stripes: Stripes) -> list[int]:
    """Where the rows of each stage begin in a thread's scratch, and where the last end."""
    sizes = (_aligned(stage.kept_bytes) for stage in stripes.stages)
    return list(accumulate(sizes, initial=0))


def lifetimes(program: Program) -> dict[Buffer, Lifetime]:
    """Of all buffers that ever are whole, in what is scheduled."""
    lives: dict[Buffer, Lifetime] = {}
    kept = {source for stripes in program.stripes for source in stripes.kept}
    for number, scheduled in enumerate(program.schedule()):
        for source in (source for step in scheduled.steps for source in step.operands.values()):
            if isinstance(source, Buffer) and source not in kept:
                lives[source] = Lifetime(lives.get(source, Lifetime(number, number)).first, number)
    return lives


def _slots(lives: Mapping[Buffer, Lifetime]) -> list[list[Buffer]]:
    """Buffers that lie at the same place: those with halos one after another, all others alone."""
    slots: list[list[Buffer]] = []
    alike: dict[object, list[list[Buffer]]] = defaultdict(list)
    for buffer, life in sorted(lives.items(), key=lambda item: item[1]):
        kinds = alike[buffer.plane, buffer.fill, buffer.images]
        free = next((slot for slot in kinds if lives[slot[-1]].last < life.first), None)
        if free is not None and _is_bordered(buffer):
            free.append(buffer)
            continue
        slots.append([buffer])
        if _is_bordered(buffer):
            kinds.append(slots[-1])
    return slots


def _is_bordered(buffer: Buffer) -> bool:
    """Whether it has a halo, and nothing else that stays."""
    return buffer.plane.halo != NO_HALO and not buffer.keeps


def _stays(buffer: Buffer) -> bool:
    """Whether something in it was filled before the first run, and is never written again."""
    return buffer.plane.halo != NO_HALO or buffer.keeps


def _lowest(size: int, spans: Sequence[Lifetime], placed: Sequence[tuple[int, int, Sequence[Lifetime]]]) -> int:
    """The lowest offset at which nothing lies that lives at the same time."""
    offset = 0
    for start, length, others in sorted(placed, key=lambda place: place[0]):
        overlaps = any(a.first <= b.last and b.first <= a.last for a in spans for b in others)
        if overlaps and offset + size > start:
            offset = max(offset, start + length)
    return offset


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
