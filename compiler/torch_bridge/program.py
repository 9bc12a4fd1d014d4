"""A graph as a flat list of steps over numbered slots: what runs at every forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from graphpress.errors import reraise_resource_fault
from graphpress.torch_bridge.context import Kernel
from graphpress.torch_bridge.errors import BridgeError

ABSENT = 0
"""The slot that is always None: what an absent optional input reads."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One call of a kernel.

    Args:
        kernel: what it computes.
        reads: slots of its operands.
        writes: slots of its results; ABSENT where one is not wanted.
        where: the node, for messages.
        frees: slots that nobody reads afterwards.
    """

    kernel: Kernel
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    where: str
    frees: tuple[int, ...] = ()


def with_frees(steps: Sequence[Instruction], kept: frozenset[int]) -> tuple[Instruction, ...]:
    """The same steps, each letting go of what it is the last to touch; slots in ``kept`` stay to the end."""
    seen = {ABSENT, *kept}
    result = []
    for step in reversed(steps):
        last = {*step.reads, *step.writes} - seen
        seen |= last
        result.append(Instruction(step.kernel, step.reads, step.writes, step.where, tuple(sorted(last))))
    return tuple(reversed(result))


def execute(steps: Sequence[Instruction], slots: list[Any]) -> None:
    """Run the steps in order over the slots.

    Raises:
        BridgeError: a step failed; its node is named and the reason is the cause.
    """
    for step in steps:
        try:
            result = step.kernel(*[slots[index] for index in step.reads])
        except BridgeError:
            raise
        except Exception as error:  # whatever the framework raises
            reraise_resource_fault(error, step.where)
            raise BridgeError(
                f"it fails in PyTorch ({type(error).__name__}: {error})",
                where=step.where,
                fix="compare with the model in ONNX Runtime on the same feed; if that runs, leave this model's "
                "training out",
            ) from error
        if isinstance(result, tuple):
            for index, item in zip(step.writes, result, strict=False):
                slots[index] = item
            slots[ABSENT] = None
        else:
            slots[step.writes[0]] = result
        for index in step.frees:
            slots[index] = None
