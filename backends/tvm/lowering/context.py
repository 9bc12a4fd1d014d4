"""The state of a lowering: which values lie where, in which form.

A form is an order of axes with floats, or with codes of a grid. A value may lie in several: its producer writes the one
that all readers read, or floats, and the others are made where somebody reads them.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.codegen.vectors import FLOAT
from graphpress.backends.tvm.kernels.kernel import Kernel
from graphpress.backends.tvm.kernels.map import Map
from graphpress.backends.tvm.kernels.permute import Permute
from graphpress.backends.tvm.kernels.plane import Halo, Plane
from graphpress.backends.tvm.kernels.stages import Destination
from graphpress.backends.tvm.lowering.codes import Codes, codes_of
from graphpress.backends.tvm.lowering.epilogue import Epilogue
from graphpress.backends.tvm.lowering.layout import LARGEST_RANK, Order, axes_between, channels_last, plane_of
from graphpress.backends.tvm.program import Buffer, CallerTensor, Program, Source, Step
from graphpress.errors import ModelError
from graphpress.ir import Value, label, static_shape
from graphpress.ir.encoding import Encoding, output_encoding, read_encoding
from graphpress.ir.types import Node

FormKey = tuple[Hashable, Order]
"""The grid of the codes, None for floats, and the order of the axes."""
FEW = 4
"""Channels of an image that do not fill a vector: as many bytes as an integer product takes."""


@dataclass(frozen=True)
class StoredValue:
    """An activation that a kernel reads.

    Args:
        memory: where it lies.
        codes: of its elements; None for floats.
        order: of its axes.
    """

    memory: Buffer | CallerTensor
    codes: Codes | None
    order: Order

    @property
    def plane(self) -> Plane:
        """Its layout."""
        return self.memory.plane

    @property
    def zero_point(self) -> int:
        """Of the codes."""
        return 0 if self.codes is None else self.codes.zero_point

    @property
    def unit(self) -> float:
        """Of its numbers, less the zero-point."""
        return 1.0 if self.codes is None else self.codes.scale


@dataclass
class Lowering:
    """A program under construction.

    Args:
        isa: the instruction set.
        halos: pixels around values that convolutions need.
        threads: among which tasks are meant to be shared.
        program: the steps so far.
        forms: of the values that have been computed.
        done: nodes that were computed along with others.
    """

    isa: Isa
    halos: Mapping[Value, Halo]
    threads: int = 1
    program: Program = field(default_factory=Program)
    forms: dict[Value, dict[FormKey, StoredValue]] = field(default_factory=dict)
    done: set[Node] = field(default_factory=set)

    # -- reading ----------------------------------------------------------------------------------------------------

    def read(self, node: Node, index: int, order: Order | None = None) -> StoredValue:
        """An input in the form in which the node reads it; in whatever order there is, unless one is given."""
        value = node.inputs[index]
        assert value is not None
        return self.form(value, read_encoding(node, index), order)

    def form(self, value: Value, encoding: Encoding | None, order: Order | None = None) -> StoredValue:
        """A value in a form; made from another where it is not there.

        Raises:
            ModelError: its axes cannot be brought into the order.
        """
        forms = self.forms[value]
        order = order or _usual_order(forms, encoding)
        key = (_grid(encoding), order)
        if key not in forms:
            floats = next((operand for operand in forms.values() if operand.codes is None), None)
            self._convert(value, floats or next(iter(forms.values())), encoding, order)
        return forms[key]

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
        """What all readers read, or floats."""
        readings = [read_encoding(use.node, use.idx) for use in value.uses()]
        if value.is_graph_output():
            readings.append(output_encoding(value))
        return readings[0] if len({_grid(encoding) for encoding in readings}) == 1 else None

    # -- writing ----------------------------------------------------------------------------------------------------

    def bind(self, value: Value, encoding: Encoding | None, order: Order, memory: Buffer | CallerTensor) -> StoredValue:
        """Say where a value lies in a form."""
        operand = StoredValue(memory, self.codes(value, encoding), order)
        self.forms.setdefault(value, {})[_grid(encoding), order] = operand
        return operand

    def room(self, value: Value, encoding: Encoding | None, order: Order) -> StoredValue:
        """New memory for a value in a form."""
        codes = self.codes(value, encoding)
        plane = self.plane(value, order)
        plane = replace(plane, dtype=FLOAT if codes is None else self.isa.dot.activations)
        fill = 0 if codes is None else codes.zero_point
        return self.bind(value, encoding, order, Buffer(plane, fill, value.name or ""))

    def plane(self, value: Value, order: Order) -> Plane:
        """The layout of a value in floats."""
        shape = shape_of(value)
        halo = self.halos.get(value) if order == channels_last(len(shape)) else None
        return plane_of(shape, order, self.isa.lanes, halo)

    def emit(self, kernel: Kernel, operands: Mapping[str, Source], nodes: Sequence[str] = ()) -> None:
        """One step more."""
        self.program.steps.append(Step(kernel, operands, tuple(nodes)))

    def copy(self, source: StoredValue, store: Destination, target: Source, order: Order, epilogue: Epilogue) -> None:
        """A value into other memory, through stages, in another order."""
        stages = tuple(epilogue.stages)
        kernel: Kernel = Map(source.plane, store, source.plane.channels, stages, source.zero_point)
        if source.order != order:
            axes = axes_between(source.order, order)
            kernel = Permute(source.plane, store, axes, stages, source.zero_point)
        self.emit(kernel, {"source": source.memory, "result": target}, [source.memory.name])

    def _convert(self, value: Value, source: StoredValue, encoding: Encoding | None, order: Order) -> None:
        if source.order != order and len(shape_of(value)) > LARGEST_RANK:
            raise ModelError(f"has more than {LARGEST_RANK} axes", where=f"value {label(value)}", fix="use onnxruntime")
        target = self.room(value, encoding, order)
        if isinstance(source.memory, CallerTensor) and target.plane.channels <= FEW:
            self._narrow(target)
        epilogue = Epilogue(unit=source.unit)
        epilogue.into(target.unit)
        self.copy(source, Destination(target.plane, target.zero_point), target.memory, order, epilogue)

    @staticmethod
    def _narrow(target: StoredValue) -> None:
        """An image of few channels: the taps of a row of the first convolution follow each other."""
        assert isinstance(target.memory, Buffer)
        stride = target.plane.channels if target.codes is None else FEW
        target.memory.plane = replace(target.plane, stride=stride)


def shape_of(value: Value) -> tuple[int, ...]:
    """The shape of a value.

    Raises:
        ModelError: it is not known.
    """
    shape = static_shape(value)
    if not shape:
        raise ModelError(f"has the shape {shape}", where=f"value {label(value)}", fix="give all inputs fixed shapes")
    return shape


def _usual_order(forms: Mapping[FormKey, StoredValue], encoding: Encoding | None) -> Order:
    """That of the form which is there already, or from which it would be made."""
    alike = [operand.order for (grid, _), operand in forms.items() if grid == _grid(encoding)]
    return alike[0] if alike else next(iter(forms.values())).order


def _grid(encoding: Encoding | None) -> Hashable:
    return None if encoding is None else encoding.grid
