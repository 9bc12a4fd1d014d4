"""Lengths in pieces of a size, and what is left of them: code for whole tiles, and code for the rest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

from tvm import tirx

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder
from graphpress.backends.tvm.codegen.extent import Extent


class Chunk(NamedTuple):
    """``pieces`` of ``size`` from ``start`` on; of a length that is known at run time only, these are expressions."""

    start: int | Expr
    pieces: int | Expr
    size: int


def chunks(total: int, size: int) -> list[Chunk]:
    """A length in pieces, and what is left as one more."""
    total = int(total)
    whole = [Chunk(0, total // size, size)] if total >= size else []
    rest = total % size
    return [*whole, Chunk(total - rest, 1, rest)] if rest else whole


def chunks_of_run(b: KernelBuilder, total: int, *sizes: int) -> list[Chunk]:
    """A length in pieces; of one that is known at run time only, what is left in pieces of the next size, and so on.

    Args:
        b: takes the statements.
        total: the length.
        sizes: of pieces, the largest first; the last is 1, so that nothing is left.
    """
    if not isinstance(total, Extent):
        return chunks(total, sizes[0])
    result, start, run = [], 0, b.value(total)
    for size in dict.fromkeys(sizes):
        count = b.let((run - start) // size)
        result.append(Chunk(start, count, size))
        start = b.let(start + count * size)
    return result


def pieces(total: int, size: int) -> int:
    """How many pieces there are."""
    return total.pieces(size) if isinstance(total, Extent) else -(-total // size)


def halvings(total: int, lanes: int) -> list[Chunk]:
    """A number of channels in whole vectors, and what is left in vectors of half the lanes, and so on."""
    result, start, total = [], 0, int(total)
    while start < total:
        if count := (total - start) // lanes:
            result.append(Chunk(start, count, lanes))
            start += count * lanes
        lanes //= 2
    return result


@contextmanager
def each_piece(b: KernelBuilder, total: int, chunk: Chunk, name: str = "piece") -> Iterator[Expr]:
    """A loop over the pieces of a chunk: over those that begin within the length, where it is known at run time only.

    Args:
        b: takes the statements.
        total: the length that the chunk is one of.
        chunk: its pieces.
        name: of the variable.
    """
    if not isinstance(total, Extent):
        with b.loop(chunk.pieces, name) as piece:
            yield piece
        return
    run = b.value(total)
    if chunk.pieces == 1:
        with b.when(run > chunk.start):
            yield 0
        return
    left = b.let((run - chunk.start + (chunk.size - 1)) // chunk.size)
    with b.loop(b.let(tirx.max(tirx.min(left, chunk.pieces), 0)), name) as piece:
        yield piece


def chosen(b: KernelBuilder, piece: Expr, chunk: Chunk, total: int, size: int) -> AbstractContextManager[None]:
    """Statements for the pieces of a chunk alone, where there are others.

    Args:
        b: takes the statements.
        piece: the number of a piece.
        chunk: of ``chunks(total, size)``.
        total: the length.
        size: of whole pieces.
    """
    if len(chunks(total, size)) == 1:
        return nullcontext()
    return b.when(piece < chunk.pieces if chunk.size == size else piece >= chunk.start // size)
