"""All constants of a program in one run of bytes, which is made piece by piece: memory holds each number once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from graphpress.backends.tvm.kernels.kernel import LARGEST_SLACK
from graphpress.backends.tvm.plan import ALIGNMENT
from graphpress.backends.tvm.program import Constant, Program

PIECE = 1 << 18
"""Bytes that are looked at together: their words and the words' weights multiply to sums below 2^64."""
MODULUS = (1 << 32) - 1


@dataclass(frozen=True)
class Weights:
    """Constants one after another, each at a multiple of ``ALIGNMENT``, zeros between.

    Args:
        arrays: the constants, equal ones once.
        offsets: where each begins.
        bytes: of all, with the slack.
    """

    arrays: Sequence[np.ndarray]
    offsets: Mapping[Constant, int]
    bytes: int

    @cached_property
    def checksum(self) -> int:
        """Fletcher's sum over 32-bit words, as the runtime computes it.

        The second sum adds up the first ones: it counts a word as often as there are words from it to the end.
        """
        low = high = 0
        for piece in self._pieces():
            words = piece.view(np.uint32).astype(np.uint64)
            counts = np.arange(len(words), 0, -1, dtype=np.uint64)
            high = (high + len(words) * low + int(words @ counts)) % MODULUS
            low = (low + int(words.sum())) % MODULUS
        return high << 32 | low

    def write(self, file: Path) -> None:
        """Write all of them."""
        with file.open("wb") as out:
            for piece in self._pieces():
                out.write(piece.data)

    def _pieces(self) -> Iterator[np.ndarray]:
        for array in self.arrays:
            flat = array.reshape(-1).view(np.uint8)
            for start in range(0, flat.size, PIECE):
                piece = flat[start : start + PIECE]
                yield np.pad(piece, (0, -piece.size % ALIGNMENT)) if piece.size % ALIGNMENT else piece
        yield np.zeros(LARGEST_SLACK, np.uint8)


def gather_weights(program: Program) -> Weights:
    """The constants of all steps."""
    arrays: list[np.ndarray] = []
    offsets: dict[Constant, int] = {}
    places: dict[bytes, int] = {}
    end = 0
    for step in program.steps:
        for source in step.operands.values():
            if not isinstance(source, Constant) or source in offsets:
                continue
            array = np.ascontiguousarray(source.array)
            digest = hashlib.sha256(array.data).digest()
            if digest not in places:
                places[digest] = end
                arrays.append(array)
                end += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
            offsets[source] = places[digest]
    return Weights(arrays, offsets, end + LARGEST_SLACK)
