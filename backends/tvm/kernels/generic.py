"""A nest of loops of TVM's own as a kernel: slow, but there is one for nearly every operator.

The tensors lie without gaps. Loops whose rounds are independent are tasks, the others lie within one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder, Memory
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.codegen.legalize import LoopNest
from graphpress.backends.tvm.kernels.kernel import Pointer


@dataclass(frozen=True)
class GenericLoops:
    """A nest of loops over whole tensors.

    Args:
        nest: the loops.
        shared: by tensor, whether all images have the same.
    """

    nest: LoopNest
    shared: tuple[bool, ...]

    @property
    def operands(self) -> Sequence[Pointer]:
        """Its tensors, by number."""
        return [Pointer(f"tensor_{number}", dtype) for number, dtype in enumerate(self.nest.dtypes)]

    def tasks(self, isa: Isa) -> int:
        """The rounds of all loops that are tasks."""
        return self.nest.tasks

    def task(self, b: KernelBuilder, isa: Isa, memory: dict[str, Memory], task: Expr) -> None:
        """One round of them."""
        rounds = self.nest.tasks
        image, rest = b.let(task // rounds), b.let(task % rounds)
        views = zip(self.nest.buffers, self.operands, self.shared, strict=True)
        places = {buffer: (memory[operand.name], 0 if shared else image) for buffer, operand, shared in views}
        values = {}
        for variable, extent in zip(self.nest.variables, self.nest.extents, strict=True):
            rounds //= extent
            values[variable] = rest // rounds % extent
        b.splice(self.nest.body, values, places)
