"""Copies that make pixels from a few planes of floats: an image, as the first convolution reads it.

    result[…, n · i + c] = stages(source[…, c · plane + i])      for c = 0 … channels - 1, at most four

Vectors run along the pixels: those of all channels are loaded. Codes become the bytes of 32-bit lanes (``n`` is four;
behind the channels lie zeros, which nobody reads); floats are picked from two vectors at a time (``n`` is the number of
channels).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tvm import tirx

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder, Memory
from graphpress.backends.tvm.codegen.dots import GROUP
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.codegen.vectors import FLOAT, splat, typed
from graphpress.backends.tvm.kernels.pieces import halvings
from graphpress.backends.tvm.kernels.stages import RESULT, Position, StageContext, run_stages
from graphpress.backends.tvm.kernels.view import StridedView
from graphpress.backends.tvm.kernels.view_copy import ViewCopy


@dataclass(frozen=True)
class Interleave(ViewCopy):
    """A copy whose last axis are the channels, and whose last but one the pixels.

    Args:
        extents: of the axes.
        source: what it reads: floats; its pixels follow each other.
        result: what it writes: codes, ``GROUP`` from a pixel to the next, or floats without gaps.
        stages: what happens on the way.
    """

    def tasks(self, isa: Isa) -> int:
        """A task is a row of pixels."""
        return math.prod(map(int, self.task_grid(isa)))

    def task_grid(self, isa: Isa) -> tuple[int, ...]:
        """All axes but the last two."""
        return self.extents[:-2]

    def task(self, b: KernelBuilder, isa: Isa, memory: dict[str, Memory], task: Expr) -> None:
        """All pixels of one row."""
        source, result = self.starts(b, task, len(self.extents) - 2)
        for chunk in halvings(self.extents[-2], isa.lanes):
            place = StageContext(b, isa, memory, chunk.size)
            with b.loop(chunk.pieces, "vector") as vector:
                first = chunk.start + vector * chunk.size
                self._pixels(place, source + first, result + first * self.result.steps[-2])

    def _pixels(self, place: StageContext, source: Expr, result: Expr) -> None:
        """As many pixels as a vector has lanes."""
        b, lanes, position, planes = place.b, place.lanes, Position(0, 0, 0, result), []
        for channel in range(self.extents[-1]):
            loaded = b.load(place.memory["source"], source + channel * self.source.steps[-1], lanes)
            planes.append(run_stages(self.stages, place, loaded, position))
        if self.result.dtype == FLOAT:
            for number, vector in enumerate(_woven(b, planes, lanes)):
                b.store(place.memory[RESULT], result + number * lanes, vector, lanes)
            return
        b.store(place.memory[RESULT], result, self._packed(place, planes), GROUP * lanes)

    def _packed(self, place: StageContext, planes: Sequence[Expr]) -> Expr:
        """The codes of pixels."""
        lanes, packed = place.lanes, None
        for channel, plane in enumerate(planes):
            codes = place.isa.codes(plane, self.result.zero_point, lanes)
            # through the unsigned type of a byte: a sign must not reach the neighbors
            wide = tirx.reinterpret(typed("uint8", lanes), codes).astype(typed("uint32", lanes))
            moved = wide << splat(8 * channel, lanes, "uint32") if channel else wide
            packed = moved if packed is None else packed | moved
        return tirx.reinterpret(typed(self.result.dtype, GROUP * lanes), packed)


def _woven(b: KernelBuilder, planes: Sequence[Expr], lanes: int) -> list[Expr]:
    """The elements of some vectors in turn, the first of each first: as many vectors."""
    named = [b.let(plane) for plane in planes]
    result = []
    for start in range(0, len(planes) * lanes, lanes):
        places = [divmod(element, len(planes)) for element in range(start, start + lanes)]
        woven = named[0]
        for number, plane in enumerate(named[1:], 1):
            # what was picked before stays, at first where it lies in its own vector
            before = [pixel if number == 1 else lane for lane, (pixel, _) in enumerate(places)]
            picked = [lanes + pixel if of == number else kept for kept, (pixel, of) in zip(before, places, strict=True)]
            woven = b.let(tirx.Shuffle([woven, plane], [tirx.const(lane, "int32") for lane in picked]))
        result.append(woven)
    return result


def can_interleave(extents: Sequence[int], source: StridedView, result: StridedView, owns_gaps: bool) -> bool:
    """Whether the last two axes are pixels and channels as ``Interleave`` copies them.

    Args:
        extents: of the axes.
        source: what is read.
        result: what is written.
        owns_gaps: whether what lies behind the channels may be written.
    """
    if len(extents) < 2 or not 1 < extents[-1] <= GROUP or source.dtype != FLOAT or source.steps[-2] != 1:
        return False
    if result.dtype == FLOAT:
        return result.steps[-2:] == (extents[-1], 1)
    whole = extents[-1] == GROUP or owns_gaps
    return whole and np.dtype(result.dtype).itemsize == 1 and result.steps[-2:] == (GROUP, 1)
