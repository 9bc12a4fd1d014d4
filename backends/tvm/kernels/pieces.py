"""Lengths in pieces of a size, and what is left of them: code for whole tiles, and code for the rest."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder


class Chunk(NamedTuple):
    """``pieces`` of ``size`` from ``start`` on."""

    start: int
    pieces: int
    size: int


def chunks(total: int, size: int) -> list[Chunk]:
    """A length in pieces, and what is left as one more."""
    whole = [Chunk(0, total // size, size)] if total >= size else []
    rest = total % size
    return [*whole, Chunk(total - rest, 1, rest)] if rest else whole


def pieces(total: int, size: int) -> int:
    """How many pieces there are."""
    return -(-total // size)


def halvings(total: int, lanes: int) -> list[Chunk]:
    """A number of channels in whole vectors, and what is left in vectors of half the lanes, and so on."""
    result, start = [], 0
    while start < total:
        if count := (total - start) // lanes:
            result.append(Chunk(start, count, lanes))
            start += count * lanes
        lanes //= 2
    return result


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
