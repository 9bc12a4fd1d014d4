"""Everything behind the sums of a kernel, down to memory, as stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graphpress.backends.tvm.kernels.plane import Plane
from graphpress.backends.tvm.kernels.stages import Destination
from graphpress.backends.tvm.lowering.chain import CLAMPS, Link, chain_behind, limits_of
from graphpress.backends.tvm.lowering.codes import Codes
from graphpress.backends.tvm.lowering.context import Lowering, StoredValue, shape_of
from graphpress.backends.tvm.lowering.epilogue import REAL, Epilogue, OtherOperand
from graphpress.backends.tvm.lowering.layout import Order
from graphpress.backends.tvm.lowering.operators import affine_of, binary_of, function_of
from graphpress.backends.tvm.lowering.spreading import spread_numbers, spread_operand
from graphpress.backends.tvm.lowering.tables import code_table, lookup_start, requantized
from graphpress.backends.tvm.program import Source
from graphpress.ir import Node
from graphpress.ir.encoding import Encoding, read_encoding


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
        codes = self.epilogue.looked_up
        zero_point = self.operand.zero_point if codes is None else codes.zero_point
        return Destination(self.operand.plane, zero_point, looks_up=codes is not None)


LeavesNoGaps = Callable[[Plane, Mapping[str, Source]], object]
"""Whether a kernel writes pixels without gaps (is it true?), by the layout of its result and what its stages read."""


def finish(
    lowering: Lowering, node: Node, order: Order, epilogue: Epilogue, leaves_no_gaps: LeavesNoGaps | None = None
) -> ChainEnd:
    """Room for the result of a node and of the chain behind it, whose nodes are done by that.

    Args:
        lowering: the program.
        node: whose first output is computed.
        order: of the axes in which its kernel works.
        epilogue: what its sums are in.
        leaves_no_gaps: whether its kernel can do without gaps behind the channels; it cannot where this is None.
    """
    links, grids = _chain(lowering, node)
    value = links[-1].node.outputs[0] if links else node.outputs[0]
    encoding, codes = lowering.wanted(value), grids[-1]
    if (first := _codes_behind(links, grids)) is not None:
        epilogue.into(first.scale)
    start, table = _table(links, grids, encoding)
    for place, link in enumerate(links[:start]):
        after = _codes_behind(links[place + 1 :], grids[place + 1 :])
        _append(lowering, link, grids[place], after, order, epilogue)
    joined = lowering.joined_room(value, order)
    if table is not None and (looked_up := grids[start]) is not None:
        epilogue.look_up(looked_up, table if joined is None else requantized(table, codes, joined.codes))
    else:
        if joined is not None and codes is not None:
            epilogue.round(codes)
        epilogue.end(codes if joined is None else joined.codes)
    done = [computed for link in links for computed in link.nodes]
    lowering.done.update(done)
    names = (node.name or "", *(computed.name or "" for computed in done))
    plane = lowering.plane(value, order)
    stride = plane.channels if leaves_no_gaps is not None and leaves_no_gaps(plane, epilogue.operands) else 0
    return ChainEnd(joined or lowering.room(value, encoding, order, stride), epilogue, names)


def codes_behind(lowering: Lowering, node: Node) -> Codes | None:
    """The codes that the result of a node becomes, with nothing but clamps between; None where it is read as floats."""
    return _codes_behind(*_chain(lowering, node))


def _chain(lowering: Lowering, node: Node) -> tuple[list[Link], list[Codes | None]]:
    """The chain behind a node, and in which codes each link reads what comes before it, and readers the end."""
    links = chain_behind(node.outputs[0], lowering.forms.__contains__)
    value = links[-1].node.outputs[0] if links else node.outputs[0]
    grids = [*(lowering.codes(node.outputs[0], link.encoding) for link in links)]
    return links, [*grids, lowering.codes(value, lowering.wanted(value))]


def _table(
    links: Sequence[Link], grids: Sequence[Codes | None], result: Encoding | None
) -> tuple[int, np.ndarray | None]:
    """From which link on a chain is a table of codes, and the table; the number of links and None without one."""
    start, last = lookup_start(links, grids), grids[-1]
    if start == len(links) or last is None or (first := grids[start]) is None:
        return len(links), None
    table = code_table(links[start:], (links[start].encoding, result), (first.shift, last.shift))
    return (len(links) if table is None else start), table


def _append(
    lowering: Lowering, link: Link, before: Codes | None, after: Codes | None, order: Order, epilogue: Epilogue
) -> None:
    """The stages of one link, which reads ``before`` and whose result becomes ``after``."""
    if before is not None:
        epilogue.round(before)
    if link.gate is not None:
        function = function_of(link.gate)
        assert function is not None
        epilogue.gate(function, lowering.codes(link.gate.outputs[0], read_encoding(link.node, *link.others)))
    elif link.others:
        shape = shape_of(link.node.outputs[0])
        others = {index: spread_operand(lowering, link.node, index, shape, order) for index in link.others}
        combine(epilogue, link.node, others, (before, after))
    else:
        apply(epilogue, lowering, link.node, order)


def apply(epilogue: Epilogue, lowering: Lowering, node: Node, order: Order) -> None:
    """A clamp, a function of one number, or a factor and an addend of each channel.

    Args:
        epilogue: the numbers so far.
        lowering: the program.
        node: the function.
        order: of the axes in which the kernel works.
    """
    function, affine = function_of(node), affine_of(node)
    if function is not None:
        epilogue.activate(function)
        return
    if affine is not None:
        shape = shape_of(node.outputs[0])
        factor, addend = (spread_numbers(lowering, numbers, shape, order) for numbers in affine)
        epilogue.into(REAL)
        epilogue.combine("mul", factor.memory, factor.plane, None, comes_first=True)
        epilogue.add(addend.memory, addend.plane, None, REAL)
        return
    limits = limits_of(node)
    assert limits is not None
    epilogue.clip(*limits)


def combine(
    epilogue: Epilogue, node: Node, others: Mapping[int, StoredValue], grids: tuple[Codes | None, Codes | None]
) -> None:
    """A function of the numbers and other operands.

    Args:
        epilogue: the numbers so far.
        node: the function.
        others: the other operands by their index.
        grids: codes of the numbers, and those that the result becomes with nothing but clamps between; None for floats.
    """
    if (function := binary_of(node)) is None:
        operands = {index: OtherOperand(other.memory, other.plane, other.codes) for index, other in others.items()}
        epilogue.choose(operands)
        return
    ((index, other),) = others.items()
    comes_first = index == 1
    before, after = grids
    if function == "sub":
        epilogue.subtract(other.memory, other.plane, other.codes, comes_first)
    elif function != "add":
        epilogue.combine(function, other.memory, other.plane, other.codes, comes_first)
    elif before is not None and other.codes is not None and after is not None:
        epilogue.add_codes(other.memory, other.plane, before, other.codes, after, comes_first)
    else:
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
