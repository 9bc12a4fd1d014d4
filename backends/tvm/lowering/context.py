"""The state of a lowering: which values lie where, in which form.

A value may lie in several forms, as floats and in codes of several grids. Its producer writes the one that all readers
read, or floats, from which the others are made where somebody reads them.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.codegen.vectors import FLOAT
from graphpress.backends.tvm.kernels.kernel import Kernel
from graphpress.backends.tvm.kernels.map import Map
from graphpress.backends.tvm.kernels.plane import Halo, Plane, whole_vectors
from graphpress.backends.tvm.kernels.stages import Store
from graphpress.backends.tvm.lowering.chain import CLAMPS, FUNCTIONS, Link, chain_behind, limits_of
from graphpress.backends.tvm.lowering.codes import Codes, codes_of
from graphpress.backends.tvm.lowering.epilogue import REAL, Epilogue
from graphpress.backends.tvm.program import Buffer, Program, Source, Step
from graphpress.errors import ModelError
from graphpress.ir import Node, Value, label, static_shape
from graphpress.ir.encoding import Encoding, output_encoding, read_encoding


@dataclass(frozen=True)
class Operand:
    """An activation that a kernel reads.

    Args:
        buffer: where it lies.
        codes: of its elements; None for floats.
    """

    buffer: Buffer
    codes: Codes | None

    @property
    def zero_point(self) -> int:
        """Of the codes."""
        return 0 if self.codes is None else self.codes.zero_point


@dataclass(frozen=True)
class Target:
    """Where the result of a chain goes.

    Args:
        value: the last of the chain.
        buffer: where it lies.
        codes: of its elements; None for floats.
        stages: between the kernel's sums and it.
        operands: of the stages.
        nodes: names of the nodes that are computed.
    """

    value: Value
    buffer: Buffer
    codes: Codes | None
    epilogue: Epilogue
    nodes: tuple[str, ...]

    @property
    def store(self) -> Store:
        """The end of the epilogue."""
        return Store(self.buffer.plane, 0 if self.codes is None else self.codes.zero_point)


@dataclass
class Lowering:
    """A program under construction.

    Args:
        isa: the instruction set.
        halos: pixels around values that readers need.
        threads: among which tasks are meant to be shared.
        program: the steps so far.
    """

    isa: Isa
    halos: Mapping[Value, Halo]
    threads: int = 1
    program: Program = field(default_factory=Program)
    forms: dict[Value, dict[Hashable, Operand]] = field(default_factory=dict)
    done: set[Node] = field(default_factory=set)

    # -- values -----------------------------------------------------------------------------------------------------

    def read(self, node: Node, index: int) -> Operand:
        """An input in the form in which the node reads it."""
        value = node.inputs[index]
        assert value is not None
        return self.form(value, read_encoding(node, index))

    def form(self, value: Value, encoding: Encoding | None) -> Operand:
        """A value in a form; made from another where it is not there."""
        forms, key = self.forms[value], _key(encoding)
        if key not in forms:
            self._convert(value, forms.get(None) or next(iter(forms.values())), encoding)
        return forms[key]

    def bind(self, value: Value, encoding: Encoding | None, buffer: Buffer) -> None:
        """Say where a value lies in a form."""
        self.forms.setdefault(value, {})[_key(encoding)] = Operand(buffer, self.codes(value, encoding))

    def codes(self, value: Value, encoding: Encoding | None) -> Codes | None:
        """The codes of an encoding, in the instruction set's type.

        Raises:
            ModelError: kernels have no such codes.
        """
        try:
            return codes_of(encoding, self.isa)
        except NotImplementedError as error:
            raise ModelError(f"{error} have no kernels", where=f"value {label(value)}", fix="choose int8") from error

    def wanted(self, value: Value) -> Encoding | None:
        """The form that all readers read, or floats."""
        read = {_key(encoding): encoding for encoding in self._readings(value)}
        return next(iter(read.values())) if len(read) == 1 else None

    def _readings(self, value: Value) -> list[Encoding | None]:
        inner = [read_encoding(use.node, use.idx) for use in value.uses()]
        return [*inner, output_encoding(value)] if value.is_graph_output() else inner

    def buffer(self, value: Value, encoding: Encoding | None) -> Buffer:
        """New memory for a value in a form."""
        codes = self.codes(value, encoding)
        plane = replace(self.plane(value), dtype=FLOAT if codes is None else self.isa.dot.activations)
        return Buffer(plane, 0 if codes is None else codes.zero_point, value.name or "")

    def plane(self, value: Value) -> Plane:
        """The layout of a value in floats.

        Raises:
            ModelError: its shape is not known, or it is no image and no vector.
        """
        shape = static_shape(value)
        if shape is None or len(shape) not in (2, 4):
            raise ModelError(f"has the shape {shape}", where=f"value {label(value)}", fix="give it a fixed shape")
        height, width = shape[2:] or (1, 1)
        stride = whole_vectors(shape[1], self.isa.lanes)
        return Plane(shape[1], height, width, stride, self.halos.get(value, Halo()))

    # -- steps ------------------------------------------------------------------------------------------------------

    def emit(self, kernel: Kernel, operands: Mapping[str, Source], nodes: Sequence[str] = ()) -> None:
        """One step more."""
        self.program.steps.append(Step(kernel, operands, tuple(nodes)))

    def finish(self, node: Node, epilogue: Epilogue) -> Target:
        """Everything behind the sums of a node, down to memory: its chain becomes stages, and is done.

        Args:
            node: whose first output is computed.
            epilogue: what its sums are in.
        """
        links = chain_behind(node.outputs[0], self.forms.__contains__)
        value = links[-1].node.outputs[0] if links else node.outputs[0]
        encoding = self.wanted(value)
        codes = self.codes(value, encoding)
        grids = [*(self.codes(node.outputs[0], link.encoding) for link in links), codes]
        if (unit := _first_unit(links, grids)) is not None:
            epilogue.into(unit)
        for place, link in enumerate(links):
            self._append(link, grids[place:], epilogue)
        epilogue.into(REAL if codes is None else codes.scale)
        self.done.update(link.node for link in links)
        buffer = self.buffer(value, encoding)
        self.bind(value, encoding, buffer)
        names = (node.name or "", *(link.node.name or "" for link in links))
        return Target(value, buffer, codes, epilogue, names)

    def _append(self, link: Link, grids: Sequence[Codes | None], epilogue: Epilogue) -> None:
        """The stages of one link."""
        if grids[0] is not None:
            epilogue.round(grids[0])
        if link.other is not None:
            other = self.read(link.node, link.other)
            after = grids[1]
            in_codes = after is not None and other.codes is not None
            epilogue.add(other.buffer, other.codes, after.scale if in_codes and after is not None else REAL)
        elif link.node.op_type in CLAMPS:
            limits = limits_of(link.node)
            assert limits is not None
            epilogue.clip(*limits)
        else:
            epilogue.activate(FUNCTIONS[link.node.op_type])

    def _convert(self, value: Value, source: Operand, encoding: Encoding | None) -> None:
        codes, epilogue = self.codes(value, encoding), Epilogue()
        if source.codes is not None:
            epilogue.unit = source.codes.scale
        epilogue.into(REAL if codes is None else codes.scale)
        buffer = self.buffer(value, encoding)
        store = Store(buffer.plane, 0 if codes is None else codes.zero_point)
        kernel = Map(
            source.buffer.plane, store, source.buffer.plane.channels, tuple(epilogue.stages), source.zero_point
        )
        self.emit(kernel, {"source": source.buffer, "result": buffer}, [value.name or ""])
        self.bind(value, encoding, buffer)


def _first_unit(links: Sequence[Link], grids: Sequence[Codes | None]) -> float | None:
    """The unit of the first codes, where only clamps come before; None where something computes in real numbers."""
    for link, codes in zip(links, grids, strict=False):
        if codes is not None:
            return codes.scale
        if link.node.op_type not in CLAMPS:
            return None
    last = grids[-1]
    return None if last is None else last.scale


def _key(encoding: Encoding | None) -> Hashable:
    return None if encoding is None else encoding.grid


def elements(plane: Plane) -> int:
    """Elements that mean something, of an image."""
    return math.prod((plane.channels, plane.height, plane.width))


def as_float32(array: np.ndarray) -> np.ndarray:
    """An array as kernels take it."""
    return np.ascontiguousarray(array, np.float32)
