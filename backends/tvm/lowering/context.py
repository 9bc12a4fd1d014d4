"""The state of a lowering: which values lie where, in which form.

A form is an order of axes with floats, or with codes of a grid. A value may lie in several: its producer writes the one
that all readers read, or floats, and the others are made where somebody reads them.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from graphpress.backends.tvm.codegen.extent import Extent
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.codegen.vectors import FLOAT
from graphpress.backends.tvm.kernels.kernel import Kernel, takes_open
from graphpress.backends.tvm.kernels.map import Map
from graphpress.backends.tvm.kernels.plane import Halo, Plane
from graphpress.backends.tvm.kernels.stages import Destination
from graphpress.backends.tvm.kernels.strided import strided_copy
from graphpress.backends.tvm.kernels.view import StridedView
from graphpress.backends.tvm.lowering.codes import Codes, codes_of
from graphpress.backends.tvm.lowering.epilogue import Epilogue
from graphpress.backends.tvm.lowering.layout import Order, channels_last, images_of, natural, plane_of, view_of
from graphpress.backends.tvm.lowering.open_axes import OpenSizeError, open_axes
from graphpress.backends.tvm.lowering.placement import JoinedPart
from graphpress.backends.tvm.lowering.refusal import shape_error
from graphpress.backends.tvm.program import Buffer, CallerTensor, Constant, Program, Source, Step
from graphpress.errors import ModelError
from graphpress.ir import DataType, Value, constant, is_constant, is_standard, label, static_shape
from graphpress.ir.encoding import Encoding, output_encoding, read_encoding
from graphpress.ir.types import Node

K = TypeVar("K", bound=Kernel)


class KernelChooser(Protocol):
    """Turns the knob of a kernel (``tuning``)."""

    def __call__(self, kernel: K) -> K:
        """The kernel with the setting that measuring found; as it is, where nothing was measured."""
        ...


def as_it_is(kernel: K) -> K:
    """What the rules chose."""
    return kernel


FormKey = tuple[Hashable, Order]
"""The grid of the codes, None for floats, and the order of the axes."""


class Laid(NamedTuple):
    """Where a value is laid down.

    Args:
        memory: its own, or that of what it is a part of.
        plane: its layout there.
    """

    memory: Buffer
    plane: Plane


FEW = 4
"""Channels of an image that are not worth whole vectors: as many bytes as an integer product takes."""

ELEMENTS: Mapping[DataType | None, str] = MappingProxyType(
    {
        DataType.FLOAT: "float32",
        DataType.FLOAT16: "float16",
        DataType.DOUBLE: "float64",
        DataType.INT64: "int64",
        DataType.INT32: "int32",
        DataType.INT16: "int16",
        DataType.INT8: "int8",
        DataType.UINT64: "uint64",
        DataType.UINT32: "uint32",
        DataType.UINT16: "uint16",
        DataType.UINT8: "uint8",
        DataType.BOOL: "uint8",
    }
)
"""What elements lie as in memory, by the type of a value."""


VIEWS = (
    "Concat",
    "DepthToSpace",
    "Dropout",
    "Expand",
    "Flatten",
    "Identity",
    "Reshape",
    "Slice",
    "SpaceToDepth",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
)
"""Operators that move elements of their inputs of numbers and change none."""


PRODUCTS = ("Gemm", "MatMul")
"""Operators that multiply two activations, too."""
LARGEST_FACTOR = 128
"""Of a packed code, by its absolute value."""


@dataclass(frozen=True)
class StoredValue:
    """An activation that a kernel reads.

    Args:
        memory: where it lies.
        codes: of its elements; None for floats.
        order: of its axes.
        shape: of the value.
        plane: layout of an image.
    """

    memory: Source
    codes: Codes | None
    order: Order
    shape: tuple[int, ...]
    plane: Plane

    @property
    def images(self) -> int:
        """That lie one behind the other."""
        return images_of(self.shape, self.order)

    @property
    def view(self) -> StridedView:
        """Where its elements lie, by axis; samples of an open batch share constants."""
        view = view_of(self.shape, self.order, self.plane, self.zero_point)
        return replace(view, size=0) if isinstance(self.memory, Constant) else view

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
        chosen: the kernel with the setting that measuring found, or as it is.
        program: the steps so far.
        forms: of the values that have been computed.
        done: nodes that were computed along with others.
        batch_axes: where the batch is open, which axis of a value counts samples, of those that have one; None where
            it is fixed.
        rounds_activations: whether integer weights may multiply activations that were rounded to eight bits.
        rounded_rows: such activations, by where they lie and how many share a scale: operands of the product.
        places: of values that may be computed where they are joined.
        laid: memory of values that are being computed: of what is joined, before its last part is.
    """

    isa: Isa
    halos: Mapping[Value, Halo]
    threads: int = 1
    chosen: KernelChooser = as_it_is
    program: Program = field(default_factory=Program)
    forms: dict[Value, dict[FormKey, StoredValue]] = field(default_factory=dict)
    done: set[Node] = field(default_factory=set)
    batch_axes: Mapping[Value, int] | None = None
    rounds_activations: bool = False
    rounded_rows: dict[tuple[Source, Plane, int], dict[str, Source]] = field(default_factory=dict)
    places: Mapping[Value, JoinedPart] = field(default_factory=dict)
    laid: dict[Value, dict[FormKey, Laid]] = field(default_factory=dict)

    # -- reading ----------------------------------------------------------------------------------------------------

    def read(self, node: Node, index: int, order: Order | None = None) -> StoredValue:
        """An input in the form in which the node reads it; in whatever order there is, unless one is given."""
        value = node.inputs[index]
        assert value is not None
        return self.form(value, read_encoding(node, index), order)

    def form(self, value: Value, encoding: Encoding | None, order: Order | None = None) -> StoredValue:
        """A value in a form; made from another where it is not there, of a constant from its numbers."""
        if value not in self.forms and is_constant(value):
            self._bind_constant(value)
        forms = self.forms[value]
        order = order or _usual_order(forms, encoding)
        key = (_grid(encoding), order)
        if key not in forms or not self._has_halo(value, forms[key]):
            floats = next((operand for operand in forms.values() if operand.codes is None), None)
            self._convert(value, floats or next(iter(forms.values())), encoding, order)
        return forms[key]

    def floats(self, node: Node, index: int, order: Order) -> StoredValue:
        """An input as floats, with the halo that convolutions want; those of the codes in which the node reads it,
        where it does, though the value itself may lie in floats that were never rounded.
        """
        source, value = self.read(node, index, order), node.inputs[index]
        if source.codes is None:
            return source
        assert value is not None
        key = (_grid(read_encoding(node, index)), FLOAT), order
        if key not in self.forms[value]:
            plane = self.plane(value, order)
            memory = Buffer(plane, 0, value.name or "", source.images)
            self.forms[value][key] = target = StoredValue(memory, None, order, source.shape, plane)
            self.copy(source, target)
        return self.forms[value][key]

    def numbers(self, node: Node, index: int) -> StoredValue:
        """An input as numbers without gaps, in the standard's order; of the codes in which the node reads it, where it
        does.
        """
        source = self.read(node, index)
        order = natural(len(source.shape))
        is_dense = source.plane.halo == Halo() and source.plane.is_dense
        if is_dense and source.order == order and source.codes is None:
            return source
        return self.without_gaps(source, None)

    def without_gaps(self, source: StoredValue, codes: Codes | None) -> StoredValue:
        """A copy of a value as the standard has it, in codes or in numbers."""
        order = natural(len(source.shape))
        plane = plane_of(source.shape, order, 1)
        plane = replace(plane, dtype=source.plane.dtype if codes == source.codes else FLOAT)
        fill = 0 if codes is None else codes.zero_point
        buffer = Buffer(plane, fill, images=images_of(source.shape, order))
        target = StoredValue(buffer, codes, order, source.shape, plane)
        self.copy(source, target)
        return target

    def _has_halo(self, value: Value, stored: StoredValue) -> bool:
        """Whether a value lies in as wide a halo as its readers want: as another view of memory it may not."""
        wanted = self.halos.get(value)
        if wanted is None or stored.order != channels_last(len(stored.shape)):
            return True
        return stored.plane.halo.around(wanted) == stored.plane.halo

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
        readings = [self._reading(use.node, use.idx) for use in value.uses()]
        if value.is_graph_output():
            readings.append(output_encoding(value))
        return _common(readings)

    def moved(self, node: Node, index: int = 0) -> tuple[StoredValue, Encoding | None]:
        """An input of a node that moves elements and changes none, in the form in which its result is read."""
        value = node.inputs[index]
        assert value is not None
        encoding = self._reading(node, index)
        return self.form(value, encoding), encoding

    def _reading(self, node: Node, index: int) -> Encoding | None:
        """What a node reads an input as; one that only moves elements, as what all its results are read."""
        encoding = read_encoding(node, index)
        if encoding is None and is_standard(node, *PRODUCTS) and (factors := self.factor_encodings(node)) is not None:
            return factors[index]
        if encoding is not None or not is_standard(node, *VIEWS):
            return encoding
        return _common([self.wanted(value) for value in node.outputs if value.uses() or value.is_graph_output()])

    def factor_encodings(self, node: Node) -> tuple[Encoding, Encoding] | None:
        """Of both factors of a product whose codes are multiplied; None where floats are.

        Both are activations that lie in codes, nothing is added, and the processor multiplies all bytes exactly.
        Extents are known: integer kernels pack whole factors.
        """
        if any(map(open_axes, (*node.inputs, *node.outputs))):
            return None
        if self.isa.dot.largest_weight < LARGEST_FACTOR or len(node.inputs) > 2 or any(map(is_constant, node.inputs)):
            return None
        left, right = (encoding_behind_views(node, index) for index in (0, 1))
        return None if left is None or right is None else (left, right)

    # -- writing ----------------------------------------------------------------------------------------------------

    def bind(
        self, value: Value, encoding: Encoding | None, order: Order, memory: Source, plane: Plane | None = None
    ) -> StoredValue:
        """Say where a value lies in a form; in another layout than that of the memory, where one is given."""
        plane = plane or memory.plane
        assert plane is not None
        operand = StoredValue(memory, self.codes(value, encoding), order, shape_of(value), plane)
        self.forms.setdefault(value, {})[_grid(encoding), order] = operand
        return operand

    def room(self, value: Value, encoding: Encoding | None, order: Order, stride: int = 0) -> StoredValue:
        """Memory for a value in a form, with the halo that its readers want: where it will be joined, or its own.

        Args:
            value: what will lie there.
            encoding: of its elements; None for numbers.
            order: of its axes.
            stride: elements from a pixel to the next; 0 for whole vectors.
        """
        again = (_grid(encoding), order) in self.forms.get(value, {})
        laid = self._own(value, encoding, order, stride) if stride or again else self._laid(value, encoding, order)
        return self.bind(value, encoding, order, *laid)

    def begun(self, value: Value, encoding: Encoding | None) -> Order | None:
        """The order in which parts of a value in a form have been computed already; None where none has."""
        return next((order for grid, order in self.laid.get(value, {}) if grid == _grid(encoding)), None)

    def joined_room(self, value: Value, order: Order) -> StoredValue | None:
        """Memory for a value where it will be joined with others, in the codes of the result; None where it is not
        read in other codes by the node that joins it, and by nobody else.
        """
        place = self.places.get(value)
        if place is None or value.is_graph_output() or len(value.uses()) > 1 or len(place.inputs) > 1:
            return None
        encoding, read = self.wanted(place.whole), self.wanted(value)
        if encoding is None or read is None or read.grid == encoding.grid:
            return None
        laid = self._part(value, place, encoding, order)
        return None if laid is None else self.bind(value, encoding, order, *laid)

    def _laid(self, value: Value, encoding: Encoding | None, order: Order) -> Laid:
        """Where a value lies that has not been computed yet; the same as long as it is not."""
        laid, key = self.laid.setdefault(value, {}), (_grid(encoding), order)
        if key not in laid:
            place = self.places.get(value)
            alike = place is not None and all(
                _grid(self._reading(place.node, index)) == _grid(encoding) for index in place.inputs
            )
            part = self._part(value, place, encoding, order) if place is not None and alike else None
            laid[key] = part or self._own(value, encoding, order)
        return laid[key]

    def _part(self, value: Value, place: JoinedPart, encoding: Encoding | None, order: Order) -> Laid | None:
        """The part of a result that a value is; None where the result lies otherwise."""
        if order[-1] != place.axis or not place.holds(self.isa.lanes):
            return None
        if _grid(encoding) != _grid(self.wanted(place.whole)) or elements_of(value) != elements_of(place.whole):
            return None
        memory, plane = self._laid(place.whole, encoding, order)
        wanted = self.halos.get(value, plane.halo) if order == channels_last(len(order)) else plane.halo
        if plane.halo.around(wanted) != plane.halo:
            return None
        return Laid(memory, plane.part(place.first, shape_of(value)[place.axis]))

    def _own(self, value: Value, encoding: Encoding | None, order: Order, stride: int = 0) -> Laid:
        codes = self.codes(value, encoding)
        plane = self.plane(value, order)
        plane = replace(
            plane,
            dtype=plane.dtype if codes is None else self.isa.dot.activations,
            stride=stride or plane.stride,
        )
        fill = 0 if codes is None else codes.zero_point
        images = images_of(shape_of(value), order)
        return Laid(Buffer(plane, fill, value.name or "", images), plane)

    def delivered_room(self, value: Value, order: Order) -> StoredValue:
        """Memory for floats: the caller's own, where nobody else reads them and no run says how many there are."""
        port = next((port for port in self.program.outputs if port.name == value.name), None)
        is_open = any(isinstance(extent, Extent) for extent in shape_of(value))
        if port is None or value.uses() or is_open or output_encoding(value) is not None or port.plane.dtype != FLOAT:
            return self.room(value, None, order)
        return self.bind(value, None, order, port)

    def plane(self, value: Value, order: Order) -> Plane:
        """The layout of a value in numbers of its own type."""
        shape = shape_of(value)
        around = self.halos.get(value) if order == channels_last(len(shape)) else None
        return replace(plane_of(shape, order, self.isa.lanes, around), dtype=elements_of(value))

    def emit(self, kernel: Kernel, operands: Mapping[str, Source], nodes: Sequence[str] = (), images: int = 1) -> None:
        """One step more, computed for so many images.

        Raises:
            OpenSizeError: the kernel sums over an axis whose extent is open.
        """
        if not takes_open(kernel):
            raise OpenSizeError(f"{type(kernel).__name__} sums over an axis whose size is open")
        self.program.steps.append(Step(kernel, operands, tuple(nodes), int(images)))

    def copy(self, source: StoredValue, target: StoredValue) -> None:
        """A value into other memory, whatever the orders of axes and the codes."""
        epilogue = Epilogue(unit=source.unit)
        epilogue.into(target.unit)
        stages, operands = tuple(epilogue.stages), {"source": source.memory, "result": target.memory}
        names = [memory.name for memory in (source.memory,) if not isinstance(memory, Constant)]
        if source.order == target.order and not isinstance(source.memory, Constant):
            store = Destination(target.plane, target.zero_point)
            kernel: Kernel = Map(source.plane, store, source.plane.channels, stages, source.zero_point)
            self.emit(kernel, operands, names, source.images)
        else:
            alone = target.plane == target.memory.plane
            kernel = strided_copy(source.shape, source.view, target.view, stages, owns_gaps=alone)
            self.emit(kernel, operands, names)

    def _convert(self, value: Value, source: StoredValue, encoding: Encoding | None, order: Order) -> None:
        stride = self._few(value, encoding, order) if isinstance(source.memory, CallerTensor) else 0
        self.copy(source, self.room(value, encoding, order, stride))

    def _bind_constant(self, value: Value) -> None:
        array = constant(value)
        assert array is not None
        order = natural(array.ndim)
        plane = replace(plane_of(array.shape, order, 1), dtype=elements_of(value))
        numbers = np.ascontiguousarray(array, plane.dtype)
        self.bind(value, None, order, Constant(numbers, plane, images_of(array.shape, order)))

    def _few(self, value: Value, encoding: Encoding | None, order: Order) -> int:
        """An image of few channels lies so that the taps of a row of the first convolution follow each other."""
        channels = self.plane(value, order).channels
        if channels > FEW:
            return 0
        return channels if encoding is None else FEW


def shape_of(value: Value) -> tuple[int, ...]:
    """The shape of a value, its open extents as such.

    Raises:
        ModelError: it is not known, or nothing lies in it.
    """
    shape = static_shape(value)
    if shape is None:
        raise shape_error(value)
    if 0 in shape:
        raise ModelError(f"has no elements: {shape}", where=f"value {label(value)}", fix="use --backend onnxruntime")
    extents = open_axes(value)
    return tuple(extents.get(axis, extent) for axis, extent in enumerate(shape)) if extents else shape


def elements_of(value: Value) -> str:
    """What the elements of a value lie as in memory, by numpy's name.

    Raises:
        ModelError: kernels have no such elements.
    """
    if (dtype := ELEMENTS.get(value.dtype)) is None:
        raise ModelError(
            f"is of type {value.dtype}: no kernels", where=f"value {label(value)}", fix="use --backend onnxruntime"
        )
    return dtype


def encoding_behind_views(node: Node, index: int) -> Encoding | None:
    """The codes in which an input lies: those in which the node reads it, or else the nodes that moved its elements."""
    encoding, value = read_encoding(node, index), node.inputs[index]
    while encoding is None and value is not None:
        producer = value.producer()
        if producer is None or not is_standard(producer, *VIEWS):
            return None
        encoding, value = read_encoding(producer, 0), producer.inputs[0]
    return encoding


def _usual_order(forms: Mapping[FormKey, StoredValue], encoding: Encoding | None) -> Order:
    """That of the form which is there already, or from which it would be made."""
    alike = [operand.order for (grid, _), operand in forms.items() if grid == _grid(encoding)]
    return alike[0] if alike else next(iter(forms.values())).order


def _common(readings: Sequence[Encoding | None]) -> Encoding | None:
    """The encoding of all readings; None, floats, where they differ."""
    return readings[0] if len({_grid(encoding) for encoding in readings}) == 1 else None


def _grid(encoding: Encoding | None) -> Hashable:
    return None if encoding is None else encoding.grid
