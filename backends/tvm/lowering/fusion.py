"""Everything behind the sums of a kernel, down to memory, as stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphpress.backends.tvm.kernels.stages import Destination
from graphpress.backends.tvm.lowering.chain import CLAMPS, FUNCTIONS, Link, chain_behind, limits_of
from graphpress.backends.tvm.lowering.codes import Codes
from graphpress.backends.tvm.lowering.context import Lowering, StoredValue
from graphpress.backends.tvm.lowering.epilogue import REAL, Epilogue
from graphpress.backends.tvm.lowering.layout import Order
from graphpress.ir import Node


@dataclass(frozen=True)
class ChainEnd:
    """Where the result of a chain goes.

    Args:
        operand: the last value of the chain.
        epilogue: between the kernel's sums and it.
        nodes: names of the nodes that are computed.
    """

    operand: StoredValue
    epilogue: Epilogue
    nodes: tuple[str, ...]

    @property
    def store(self) -> Destination:
        """The end of the epilogue."""
        return Destination(self.operand.plane, self.operand.zero_point)


def finish(lowering: Lowering, node: Node, order: Order, epilogue: Epilogue) -> ChainEnd:
    """Room for the result of a node and of the chain behind it, whose nodes are done by that.

    Args:
        lowering: the program.
        node: whose first output is computed.
        order: of the axes in which its kernel works.
        epilogue: what its sums are in.
    """
    links = chain_behind(node.outputs[0], lowering.forms.__contains__)
    value = links[-1].node.outputs[0] if links else node.outputs[0]
    encoding = lowering.wanted(value)
    codes = lowering.codes(value, encoding)
    grids = [*(lowering.codes(node.outputs[0], link.encoding) for link in links), codes]
    if (unit := _first_unit(links, grids)) is not None:
        epilogue.into(unit)
    for place, link in enumerate(links):
        _append(lowering, link, grids[place], grids[place + 1], order, epilogue)
    epilogue.into(REAL if codes is None else codes.scale)
    lowering.done.update(link.node for link in links)
    names = (node.name or "", *(link.node.name or "" for link in links))
    return ChainEnd(lowering.room(value, encoding, order), epilogue, names)


def _append(
    lowering: Lowering, link: Link, before: Codes | None, after: Codes | None, order: Order, epilogue: Epilogue
) -> None:
    """The stages of one link, which reads ``before`` and whose result is read as ``after``."""
    if before is not None:
        epilogue.round(before)
    if link.other is not None:
        add(epilogue, lowering.read(link.node, link.other, order), after)
    elif link.node.op_type in CLAMPS:
        limits = limits_of(link.node)
        assert limits is not None
        epilogue.clip(*limits)
    else:
        epilogue.activate(FUNCTIONS[link.node.op_type])


def add(epilogue: Epilogue, other: StoredValue, after: Codes | None) -> None:
    """Another operand, in the units of what follows where both are codes."""
    in_codes = after is not None and other.codes is not None
    epilogue.add(other.memory, other.codes, after.scale if in_codes and after is not None else REAL)


def _first_unit(links: Sequence[Link], grids: Sequence[Codes | None]) -> float | None:
    """The unit of the first codes, where only clamps come before; None where something computes in real numbers."""
    for link, codes in zip(links, grids, strict=False):
        if codes is not None:
            return codes.scale
        if link.node.op_type not in CLAMPS:
            return None
    last = grids[-1]
    return None if last is None else last.scale
