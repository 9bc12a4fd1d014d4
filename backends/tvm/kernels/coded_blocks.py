"""Activations as signed codes of eight bits, with a scale for each block of a row: what integer weights multiply.

    scale[m, block] = max over k of |x[m, k]| / 127
    code[m, k]      = round(x[m, k] · 127 / max),    sum[m, block] = Σ over k of code[m, k]

as ONNX Runtime's MatMulNBits rounds its activations at accuracy level 4. The sums are what zero-points of the weights
are multiplied by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder, Memory
from graphpress.backends.tvm.codegen.extent import Extent
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.codegen.vectors import FLOAT, folded, splat, typed
from graphpress.backends.tvm.kernels.kernel import Pointer
from graphpress.backends.tvm.kernels.plane import Plane
from graphpress.backends.tvm.kernels.stages import RESULT

LARGEST_CODE = 127
"""Of the codes, by absolute value."""


@dataclass(frozen=True)
class CodedBlocks:
    """Rows as codes.

    Args:
        source: floats; its pixels are the rows.
        block: elements that share a scale; whole vectors, and they divide the channels.
    """

    source: Plane
    block: int

    @property
    def takes_open(self) -> bool:
        """Blocks are those of all elements."""
        return not isinstance(self.source.channels, Extent)

    @property
    def codes(self) -> Plane:
        """Layout of the codes."""
        source = self.source
        return Plane(source.channels, source.height, source.width, source.channels, dtype="int8")

    @property
    def blocks(self) -> Plane:
        """Layout of the scales, and of the sums but for their type: an element for each block."""
        count = self.source.channels // self.block
        return Plane(count, self.source.height, self.source.width, count)

    @property
    def operands(self) -> Sequence[Pointer]:
        """Floats; codes, scales and sums."""
        return [Pointer("source", FLOAT), Pointer("codes", "int8"), Pointer("scales", FLOAT), Pointer(RESULT, "int32")]

    def tasks(self, isa: Isa) -> int:
        """A task is a row."""
        return int(self.source.height * self.source.width)

    def task_grid(self, isa: Isa) -> tuple[int, int]:
        """Rows of pixels, and pixels."""
        return self.source.height, self.source.width

    def task(self, b: KernelBuilder, isa: Isa, memory: dict[str, Memory], task: Expr) -> None:
        """All blocks of the row."""
        image, inside = b.let(task // self.tasks(isa)), b.let(task % self.tasks(isa))
        pixel = self.source.at(inside // self.source.width, inside % self.source.width)
        source = b.let(image * self.source.size + pixel)
        count = self.blocks.channels
        with b.loop(count, "block") as block:
            start = block * self.block
            largest = self._largest(b, isa, memory["source"], b.let(source + start))
            b.store(memory["scales"], task * count + block, largest * splat(1 / LARGEST_CODE, 1))
            factor = b.let(tirx.Select(largest > splat(0.0, 1), splat(float(LARGEST_CODE), 1) / largest, splat(0.0, 1)))
            total = self._write(b, isa, memory, (source + start, task * self.source.channels + start), factor)
            b.store(memory[RESULT], task * count + block, total)

    def _largest(self, b: KernelBuilder, isa: Isa, source: Memory, start: Expr) -> Expr:
        """The largest absolute value of a block."""
        lanes = isa.lanes
        largest = b.registers(lanes, FLOAT)
        b.store(largest, 0, splat(0.0, lanes), lanes)
        with b.loop(self.block // lanes, "vector") as vector:
            numbers = tirx.abs(b.load(source, start + vector * lanes, lanes))
            b.store(largest, 0, tirx.max(b.load(largest, 0, lanes), numbers), lanes)
        return b.let(folded(b, b.load(largest, 0, lanes), lanes, tirx.max))

    def _write(
        self, b: KernelBuilder, isa: Isa, memory: dict[str, Memory], starts: tuple[Expr, Expr], factor: Expr
    ) -> Expr:
        """The codes of a block, and their sum.

        Args:
            b: takes the statements.
            isa: the instruction set.
            memory: what the operands point to.
            starts: of the block, in the source and among the codes.
            factor: that makes codes of numbers.
        """
        lanes = isa.lanes
        source, codes = (b.let(start) for start in starts)
        sums = b.registers(lanes, "int32")
        b.store(sums, 0, splat(0, lanes, "int32"), lanes)
        with b.loop(self.block // lanes, "vector") as vector:
            numbers = b.load(memory["source"], source + vector * lanes, lanes) * splat(factor, lanes)
            integers = b.let(isa.rounded(numbers, lanes))
            b.store(memory["codes"], codes + vector * lanes, integers.astype(typed("int8", lanes)), lanes)
            b.store(sums, 0, b.load(sums, 0, lanes) + integers, lanes)
        return folded(b, b.load(sums, 0, lanes), lanes, lambda left, right: left + right)
