"""How the tasks of a kernel follow the rows of its result: what it takes to compute a few rows at a time."""

from __future__ import annotations

from dataclasses import dataclass

from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.kernels.kernel import Kernel
from graphpress.backends.tvm.kernels.plane import Plane
from graphpress.backends.tvm.kernels.window import RowWindow


@dataclass(frozen=True)
class RowWork:
    """Rows of a kernel's result, and the rows of the operand ``source`` that they take.

    Args:
        source: layout of what is read by rows; its halo is read as padding.
        result: layout of what is written.
        window: which rows of the source a row reads.
        macs: multiply-accumulates of a row.
        rows: of a tile.
        tasks: of a tile; they follow each other, and the tiles from top to bottom.
    """

    source: Plane
    result: Plane
    window: RowWindow
    macs: int
    rows: int = 1
    tasks: int = 1

    @property
    def tiles(self) -> int:
        """From top to bottom."""
        return -(-self.result.height // self.rows)

    def whole_tiles(self, row: int) -> int:
        """A number of rows from the top, rounded up to tiles."""
        return min(-(-max(row, 0) // self.rows) * self.rows, self.result.height)


def row_work(kernel: Kernel, isa: Isa) -> RowWork | None:
    """What a kernel says of its rows (``row_work``); None where its tasks do not follow them."""
    says = getattr(kernel, "row_work", None)
    work: RowWork | None = None if says is None else says(isa)
    return work
