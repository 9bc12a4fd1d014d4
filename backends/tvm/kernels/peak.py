"""As many multiplications a second as a core can do: what the speed of other kernels is compared with.

    accumulator[i, j] = accumulator[i, j] + activation[i] · weight[j],  again and again

for as many i and two j as registers hold, with operands from the first-level cache: a product without beginning or end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder, Memory
from graphpress.backends.tvm.codegen.dots import GROUP
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.codegen.vectors import FLOAT, splat
from graphpress.backends.tvm.kernels.kernel import Pointer

ROUNDS = 2000
FACTORS = 2
"""Vectors of weights."""
PLACES = 4
"""Operands of a round lie at one of so many places in turn: no product is the same as that of the round before."""


@dataclass(frozen=True)
class Peak:
    """Products that need nothing from memory.

    Args:
        activations: type of the codes that are multiplied by int8; ``float32`` for floats.
    """

    activations: str = FLOAT

    @property
    def integer(self) -> bool:
        """Whether codes are multiplied."""
        return self.activations != FLOAT

    @property
    def operands(self) -> Sequence[Pointer]:
        """``[PLACES, i]`` activations (by fours, of codes), ``[PLACES, j]`` vectors of weights, one vector of sums."""
        weights, sums = ("int8", "int32") if self.integer else (FLOAT, FLOAT)
        return Pointer("source", self.activations), Pointer("weights", weights), Pointer("result", sums)

    def accumulators(self, isa: Isa) -> int:
        """Vectors of output channels that are summed: all registers but those of the factors and an activation."""
        return (isa.registers - FACTORS - 2) // self.sums_per_channel(isa)

    def sums_per_channel(self, isa: Isa) -> int:
        """Sums of an accumulator for each output channel."""
        return isa.dot.partial if self.integer else 1

    @property
    def step(self) -> int:
        """Activations that one multiplication takes."""
        return GROUP if self.integer else 1

    def macs(self, isa: Isa) -> int:
        """Multiply-accumulates of a task."""
        return ROUNDS * self.accumulators(isa) * isa.lanes * self.step

    def tasks(self, isa: Isa) -> int:
        """One."""
        return 1

    def task(self, b: KernelBuilder, isa: Isa, memory: dict[str, Memory], task: Expr) -> None:
        """Multiply, and write the sum of all accumulators."""
        lanes, count = isa.lanes, self.accumulators(isa)
        width = lanes * self.sums_per_channel(isa)
        sums = b.registers(count * width, memory["result"].dtype)
        first = b.load(memory["result"], 0, lanes)
        start = b.let(isa.dot.start(first, lanes) if self.integer else first)
        for place in range(count):
            b.store(sums, place * width, start, width)
        with b.loop(ROUNDS, "round") as number:
            self._round(b, isa, memory, sums, b.let(number % PLACES))
        total = b.load(sums, 0, width)
        for place in range(1, count):
            total = total + b.load(sums, place * width, width)
        b.store(memory["result"], 0, isa.dot.total(total, lanes) if self.integer else total, lanes)

    def _round(self, b: KernelBuilder, isa: Isa, memory: dict[str, Memory], sums: Memory, turn: Expr) -> None:
        lanes, width, elements = isa.lanes, isa.lanes * self.step, self.accumulators(isa) // FACTORS
        sums_width = lanes * self.sums_per_channel(isa)
        weights, source = memory["weights"], memory["source"]
        factors = [b.let(b.load(weights, turn * (FACTORS * width) + place * width, width)) for place in range(FACTORS)]
        for place in range(elements):
            at = (turn * elements + place) * self.step
            floats = None if self.integer else b.let(splat(b.load(source, at), lanes))
            element = isa.dot.operands(b, source, at, 1)[0] if floats is None else floats
            for column, factor in enumerate(factors):
                where = (place * FACTORS + column) * sums_width
                total = b.load(sums, where, sums_width)
                added = isa.dot.multiply(total, element, factor, lanes) if self.integer else total + element * factor
                b.store(sums, where, added, sums_width)
