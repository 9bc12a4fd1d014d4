"""A model as a list of kernels over buffers: what lowering gives, and what an artifact is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from graphpress.backends.tvm.codegen.extent import RunTimeSize
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.kernels.kernel import Kernel
from graphpress.backends.tvm.kernels.plane import Halo, Plane
from graphpress.backends.tvm.kernels.row_work import RowWork


@dataclass(eq=False)
class Buffer:
    """Memory that steps write and read.

    Args:
        plane: layout of an image.
        fill: what its halo holds: the zero-point of codes, else 0.
        name: of the value that it holds, for messages.
        images: that lie one behind the other.
        keeps: whether more than its halo keeps from run to run what it was filled with: nothing else may lie there.
    """

    plane: Plane
    fill: int = 0
    name: str = ""
    images: int = 1
    keeps: bool = False

    @property
    def bytes(self) -> int:
        """Of all images."""
        return self.images * self.plane.size * np.dtype(self.plane.dtype).itemsize


@dataclass(frozen=True, eq=False)
class CallerTensor:
    """A tensor of the caller's, without gaps.

    Args:
        name: of the graph input or output.
        shape: of one sample, where the batch is open; of the largest, where its extents are.
        plane: layout of an image.
        images: that lie one behind the other.
        dtype: type of the caller's elements, by numpy's name.
    """

    name: str
    shape: tuple[int, ...]
    plane: Plane
    images: int = 1
    dtype: str = "float32"


@dataclass(frozen=True, eq=False)
class Constant:
    """Numbers that are known when the model is compiled, in the order in which a kernel reads them.

    Args:
        array: the numbers.
        plane: layout of an image, where a kernel reads them like an activation.
        images: that lie one behind the other.
    """

    array: np.ndarray
    plane: Plane | None = None
    images: int = 1


Source = Buffer | CallerTensor | Constant
"""What an operand of a step points to."""


@dataclass(frozen=True, eq=False)
class Step:
    """A kernel, and what its operands point to.

    Args:
        kernel: what is computed.
        operands: by the name that the kernel gives them.
        nodes: names of the nodes that it computes.
        images: how often it is computed, each time on the next image of every operand that changes.
    """

    kernel: Kernel
    operands: Mapping[str, Source]
    nodes: tuple[str, ...] = ()
    images: int = 1

    @property
    def result(self) -> Source:
        """What it writes: the last operand."""
        return self.operands[self.kernel.operands[-1].name]

    @property
    def steps(self) -> Sequence[Step]:
        """Itself."""
        return (self,)

    def tasks(self, isa: Isa) -> int:
        """Of all images."""
        return self.images * self.kernel.tasks(isa)


@dataclass(frozen=True, eq=False)
class StripeStage:
    """A step of ``Stripes``.

    Args:
        step: what is computed.
        work: rows that it reads and writes.
        room: rows of its result that a thread keeps for the next stage; 0 of the last, which writes all.
    """

    step: Step
    work: RowWork
    room: int = 0

    @property
    def kept_bytes(self) -> int:
        """Of the rows that are kept."""
        return self.room * self.work.result.row * np.dtype(self.work.result.dtype).itemsize


@dataclass(frozen=True, eq=False)
class Stripes:
    """Steps that threads compute together, a stripe of rows at a time.

    Each stage reads the rows of the one before while they lie in the thread's own cache; only the last one's result is
    ever whole. A task is a tile of its rows.

    Args:
        stages: at least two, in order.
    """

    stages: Sequence[StripeStage]

    @property
    def steps(self) -> Sequence[Step]:
        """Of all stages."""
        return [stage.step for stage in self.stages]

    @property
    def nodes(self) -> Sequence[str]:
        """Of all stages."""
        return [node for step in self.steps for node in step.nodes]

    @property
    def kept(self) -> Sequence[Source]:
        """Results of which only stripes ever exist."""
        return [step.result for step in self.steps[:-1]]

    def tasks(self, isa: Isa) -> int:
        """Of all images."""
        last = self.stages[-1]
        return last.step.images * last.work.tiles


@dataclass(frozen=True)
class OpenSize:
    """A size that each run gives: of a sequence, of a cache.

    Args:
        name: of the dimension.
        size: what kernels take.
        minimum: the smallest.
    """

    name: str
    size: RunTimeSize
    minimum: int = 1


@dataclass
class Program:
    """Steps in order.

    Args:
        inputs: of the model, in its order.
        outputs: of the model, in its order.
        steps: what is computed.
        generic: nodes that TVM's own loops compute, and why.
        stripes: steps, each behind the other, that are computed together.
        sizes: that each run gives.
    """

    inputs: Sequence[CallerTensor] = ()
    outputs: Sequence[CallerTensor] = ()
    steps: list[Step] = field(default_factory=list)
    generic: dict[str, str] = field(default_factory=dict)
    stripes: Sequence[Stripes] = ()
    sizes: Sequence[OpenSize] = ()

    def schedule(self) -> list[Step | Stripes]:
        """What threads compute between one waiting for each other and the next."""
        together = {step: stripes for stripes in self.stripes for step in stripes.steps}
        return list(dict.fromkeys(together.get(step, step) for step in self.steps))

    def with_steps(self, others: Mapping[Step, Step]) -> Program:
        """The same, with another step in the place of each."""
        stripes = [Stripes([replace(stage, step=others[stage.step]) for stage in each.stages]) for each in self.stripes]
        return replace(self, steps=[others[step] for step in self.steps], stripes=stripes)


NO_HALO = Halo()
