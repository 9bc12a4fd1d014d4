"""Statements of a kernel, built node by node.

TIR's nodes are made directly: no script is parsed and no schedule is transformed, so that a kernel takes milliseconds
to build. What is indexed by constants alone in a buffer of ``registers`` ends in vector registers: LLVM takes such
buffers apart (scalar replacement of aggregates).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import tvm_ffi
from tvm import ir, tirx

from graphpress.backends.tvm.codegen.extent import Extent, RunTimeSize

Expr = Any
"""A TIR expression, or an ``int`` where one is expected."""
Stmt = Any
"""A TIR statement."""

INDEX = "int32"
UNBOUNDED = 1 << 28
"""Elements that a pointer is declared to point to: kernels compute all their offsets themselves."""


@dataclass(frozen=True)
class Memory:
    """What a pointer points to, or vector registers.

    Args:
        buffer: TIR's buffer.
        dtype: type of its elements, by numpy's name.
        parameter: the pointer, where it is one of the kernel's.
    """

    buffer: Expr
    dtype: str
    parameter: Expr = None


class KernelBuilder:
    """Collects the statements of one kernel, innermost block last."""

    def __init__(self) -> None:
        self._blocks: list[list[Stmt]] = [[]]
        self._names = 0
        self._sizes: dict[RunTimeSize, Expr] = {}

    # -- control --------------------------------------------------------------------------------------------------

    @contextmanager
    def loop(self, extent: int | Expr, name: str = "i", start: int | Expr = 0) -> Iterator[Expr]:
        """A loop from ``start`` over ``extent`` values; gives its variable. One that runs once is no loop."""
        extent = self.value(extent)
        if isinstance(extent, int) and extent == 1:
            yield start
            return
        variable = tirx.Var(self._name(name), INDEX)
        self._blocks.append([])
        yield variable
        body = self._close()
        self._emit(tirx.For(variable, index(start), index(extent), tirx.ForKind.SERIAL, body))

    @contextmanager
    def when(self, condition: Expr) -> Iterator[None]:
        """Statements that run where a condition holds."""
        self._blocks.append([])
        yield
        self._emit(tirx.IfThenElse(condition, self._close(), None))

    # -- memory ---------------------------------------------------------------------------------------------------

    def pointer(self, name: str, dtype: str) -> Memory:
        """A parameter of the kernel that points to elements of a type."""
        parameter = tirx.Var(name, ir.PointerType(ir.PrimType(dtype)))
        buffer = tirx.decl_buffer((UNBOUNDED,), dtype, f"{name}_elements", data=parameter)
        self._emit(tirx.DeclBuffer(buffer, data=parameter))
        return Memory(buffer, dtype, parameter)

    def registers(self, elements: int, dtype: str) -> Memory:
        """Room for vectors that stay in registers, as long as constants alone index it."""
        buffer = tirx.decl_buffer((elements,), dtype, self._name("registers"), scope="local")
        self._emit(tirx.AllocBuffer(buffer))
        return Memory(buffer, dtype)

    def load(self, memory: Memory, offset: int | Expr, lanes: int = 1, step: int = 1) -> Expr:
        """So many elements from an offset on, ``step`` elements apart."""
        return tirx.BufferLoad(memory.buffer, [_at(offset, lanes, step)])

    def store(self, memory: Memory, offset: int | Expr, value: Expr, lanes: int = 1, step: int = 1) -> None:
        """Write so many elements from an offset on, ``step`` elements apart."""
        self._emit(tirx.BufferStore(memory.buffer, value, [_at(offset, lanes, step)]))

    def prefetch(self, memory: Memory, offset: int | Expr) -> None:
        """Ask for the cache line of an element that will be read soon, into the first level."""
        address = tirx.address_of(self.load(memory, offset))
        self._emit(tirx.Evaluate(tirx.call_intrin("void", "tirx.prefetch", address, 0, 3, 1)))

    # -- values ---------------------------------------------------------------------------------------------------

    def let(self, value: int | Expr, name: str = "t") -> Expr:
        """A name for a value that is used more than once."""
        if isinstance(value, int):
            return value
        variable = tirx.Var(self._name(name), value.ty)
        self._emit(tirx.Bind(variable, value))
        return variable

    def select(self, condition: Expr, value: Expr, otherwise: Expr) -> Expr:
        """A value where a condition holds, else another; both are computed.

        They are named first: TVM simplifies what stands inside of a ``Select`` as if its condition held, which takes
        the bounds off an offset that depends on the same variables, although the value is loaded in either case.
        """
        return tirx.Select(condition, self.let(value), self.let(otherwise))

    def value(self, extent: int | Expr) -> int | Expr:
        """What an extent is in this run; what is known stays as it is."""
        return self.let(extent.evaluated(self.size)) if isinstance(extent, Extent) else extent

    def size(self, size: RunTimeSize) -> Expr:
        """A size of the run, as a parameter of the kernel."""
        return self._sizes.setdefault(size, self.scalar(f"size_{size.number}"))

    def scalar(self, name: str) -> Expr:
        """An integer parameter of the kernel."""
        return tirx.Var(name, INDEX)

    # -- what others built ----------------------------------------------------------------------------------------

    def splice(
        self, statement: Stmt, values: Mapping[Expr, Expr], places: Mapping[Expr, tuple[Memory, int | Expr]]
    ) -> None:
        """A statement that was built elsewhere.

        Args:
            statement: the statement.
            values: of its free variables.
            places: of its buffers: a parameter, and how many buffers of the kind lie in front of it there.
        """
        for variable, value in values.items():
            self._emit(tirx.Bind(variable, value.astype(variable.ty.dtype)))
        views = {buffer: self._view(buffer, *place) for buffer, place in places.items()}
        self._emit(tvm_ffi.structural_map(statement, (ir.Var, lambda variable: views.get(variable, variable))))

    def _view(self, buffer: Expr, memory: Memory, number: int | Expr) -> Expr:
        offset = index(number) * math.prod(int(extent) for extent in buffer.shape)
        name, pointer = self._name("view"), memory.parameter
        view = tirx.decl_buffer(buffer.shape, buffer.dtype, name, data=pointer, elem_offset=offset)
        self._emit(tirx.DeclBuffer(view, data=pointer))
        return view

    # -- the whole ------------------------------------------------------------------------------------------------

    def function(self, name: str, parameters: Sequence[Expr], target: Expr) -> Expr:
        """All statements as a function with a plain C symbol."""
        function = tirx.PrimFunc(list(parameters), self._close())
        attributes = {"global_symbol": name, "tirx.noalias": True, "target": target}
        for key, value in attributes.items():
            function = function.with_attr(key, value)
        return function

    def _emit(self, statement: Stmt) -> None:
        self._blocks[-1].append(statement)

    def _close(self) -> Stmt:
        statements = self._blocks.pop()
        return statements[0] if len(statements) == 1 else tirx.SeqStmt(statements)

    def _name(self, stem: str) -> str:
        self._names += 1
        return f"{stem}_{self._names}"


def index(value: int | Expr) -> Expr:
    """An offset or extent as an expression."""
    return tirx.const(int(value), INDEX) if isinstance(value, int) else value


def _at(offset: int | Expr, lanes: int, step: int = 1) -> Expr:
    return index(offset) if lanes == 1 else tirx.Ramp(index(offset), index(step), lanes)
