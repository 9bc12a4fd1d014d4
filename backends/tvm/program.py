"""A model as a list of kernels over buffers: what lowering gives, and what an artifact is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from graphpress.backends.tvm.kernels.kernel import Kernel
from graphpress.backends.tvm.kernels.plane import Halo, Plane


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
        shape: of one sample, where the batch is open.
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


@dataclass
class Program:
    """Steps in order.

    Args:
        inputs: of the model, in its order.
        outputs: of the model, in its order.
        steps: what is computed.
        generic: nodes that TVM's own loops compute, and why.
    """

    inputs: Sequence[CallerTensor] = ()
    outputs: Sequence[CallerTensor] = ()
    steps: list[Step] = field(default_factory=list)
    generic: dict[str, str] = field(default_factory=dict)

    def buffers(self) -> list[Buffer]:
        """All buffers, in the order in which steps first name them."""
        seen: dict[Buffer, None] = {}
        for step in self.steps:
            seen.update((source, None) for source in step.operands.values() if isinstance(source, Buffer))
        return list(seen)


NO_HALO = Halo()
