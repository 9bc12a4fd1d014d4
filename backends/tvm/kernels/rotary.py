"""Rotary position embedding: pairs of elements of a head, turned by the angle of their position.

    result[i] = x[i] · cos - x[j] · sin        result[j] = x[i] · sin + x[j] · cos

The elements of a pair are half of the turned width apart, or neighbors (interleaved); what lies behind the turned width
stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder, Memory
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.codegen.vectors import FLOAT
from graphpress.backends.tvm.kernels.batched_product import batch_offset
from graphpress.backends.tvm.kernels.kernel import Pointer
from graphpress.backends.tvm.kernels.pieces import halvings
from graphpress.backends.tvm.kernels.stages import RESULT
from graphpress.backends.tvm.kernels.view import StridedView


@dataclass(frozen=True)
class RotaryKernel:
    """Rotary embedding of all heads.

    Args:
        extents: batch, length, heads, width.
        turned: elements of the width that are turned; even.
        source: floats, by these axes; elements of a head follow each other.
        result: the same.
        cosine: floats ``[batch, length, heads, turned / 2]``.
        sine: the same.
        interleaved: whether the elements of a pair are neighbors.
    """

    extents: tuple[int, int, int, int]
    turned: int
    source: StridedView
    result: StridedView
    cosine: StridedView
    sine: StridedView
    interleaved: bool = False
    takes_open: ClassVar[bool] = True

    @property
    def operands(self) -> Sequence[Pointer]:
        """The source, the angles, and the result."""
        return [Pointer(name, FLOAT) for name in ("source", "cosine", "sine", RESULT)]

    def tasks(self, isa: Isa) -> int:
        """A task is all heads of a position."""
        return math.prod(map(int, self.task_grid(isa)))

    def task_grid(self, isa: Isa) -> tuple[int, ...]:
        """Batch and length."""
        return self.extents[:2]

    def task(self, b: KernelBuilder, isa: Isa, memory: dict[str, Memory], task: Expr) -> None:
        """All pairs of the heads, then what is not turned."""
        views = {"source": self.source, "cosine": self.cosine, "sine": self.sine, RESULT: self.result}
        starts = {name: b.let(batch_offset(view, task, self.extents[:2])) for name, view in views.items()}
        with b.loop(self.extents[2], "head") as head:
            at = {name: b.let(starts[name] + head * view.steps[2]) for name, view in views.items()}
            for chunk in halvings(self.turned // 2, isa.lanes):
                with b.loop(chunk.pieces, "vector") as number:
                    self._turn(b, memory, at, b.let(chunk.start + number * chunk.size), chunk.size)
            for chunk in halvings(self.extents[3] - self.turned, isa.lanes):
                with b.loop(chunk.pieces, "vector") as number:
                    place = self.turned + chunk.start + number * chunk.size
                    value = b.load(memory["source"], at["source"] + place, chunk.size)
                    b.store(memory[RESULT], at[RESULT] + place, value, chunk.size)

    def _turn(self, b: KernelBuilder, memory: dict[str, Memory], at: dict[str, Expr], pair: Expr, lanes: int) -> None:
        step, apart = (2, 1) if self.interleaved else (1, self.turned // 2)
        first, second = pair * step, pair * step + apart
        x, y = (b.let(b.load(memory["source"], at["source"] + place, lanes, step)) for place in (first, second))
        cosine, sine = (b.let(b.load(memory[name], at[name] + pair, lanes)) for name in ("cosine", "sine"))
        b.store(memory[RESULT], at[RESULT] + first, x * cosine - y * sine, lanes, step)
        b.store(memory[RESULT], at[RESULT] + second, x * sine + y * cosine, lanes, step)
