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
    links, grids = _chain(lowering, node)
    value = links[-1].node.outputs[0] if links else node.outputs[0]
    encoding, codes = lowering.wanted(value), grids[-1]
    if (first := _codes_behind(links, grids)) is not None:
        epilogue.into(first.scale)
    for place, link in enumerate(links):
        after = _codes_behind(links[place + 1 :], grids[place + 1 :])
        _append(lowering, link, grids[place], after, order, epilogue)
    epilogue.into(REAL if codes is None else codes.scale)
    lowering.done.update(link.node for link in links)
    names = (node.name or "", *(link.node.name or "" for link in links))
    return ChainEnd(lowering.room(value, encoding, order), epilogue, names)


def codes_behind(lowering: Lowering, node: Node) -> Codes | None:
    """The codes that the result of a node becomes, with nothing but clamps between; None where it is read as floats."""
    return _codes_behind(*_chain(lowering, node))


def _chain(lowering: Lowering, node: Node) -> tuple[list[Link], list[Codes | None]]:
    """The chain behind a node, and in which codes each link reads what comes before it, and readers the end."""
    links = chain_behind(node.outputs[0], lowering.forms.__contains__)
    value = links[-1].node.outputs[0] if links else node.outputs[0]
    grids = [*(lowering.codes(node.outputs[0], link.encoding) for link in links)]
    return links, [*grids, lowering.codes(value, lowering.wanted(value))]


def _append(
    lowering: Lowering, link: Link, before: Codes | None, after: Codes | None, order: Order, epilogue: Epilogue
) -> None:
    """The stages of one link, which reads ``before`` and whose result becomes ``after``."""
    if before is not None:
        epilogue.round(before)
    if link.other is not None:
        add(epilogue, lowering.read(link.node, link.other, order), before, after, link.other)
    elif link.node.op_type in CLAMPS:
        limits = limits_of(link.node)
        assert limits is not None
        epilogue.clip(*limits)
    else:
        epilogue.activate(FUNCTIONS[link.node.op_type])


def add(epilogue: Epilogue, other: StoredValue, before: Codes | None, after: Codes | None, index: int) -> None:
    """Another operand of a sum.

    Args:
        epilogue: the numbers so far.
        other: the operand.
        before: codes of the numbers; None where they are float.
        after: codes of the sum, with nothing but clamps between.
        index: of the other operand.
    """
    if before is not None and other.codes is not None and after is not None:
        epilogue.add_codes(other.memory, other.plane, before, other.codes, after, comes_first=index == 1)
        return
    in_codes = after is not None and other.codes is not None
    epilogue.add(other.memory, other.plane, other.codes, after.scale if in_codes and after is not None else REAL)


def _codes_behind(links: Sequence[Link], grids: Sequence[Codes | None]) -> Codes | None:
    """The first codes, where only clamps come before; None where something computes in real numbers."""
    for link, codes in zip(links, grids, strict=False):
        if codes is not None:
            return codes
        if link.node.op_type not in CLAMPS:
            return None
    return grids[-1]
