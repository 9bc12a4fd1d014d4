"""What happens to a vector between an accumulator and memory: the epilogue of a kernel, stage by stage.

Every kernel that computes channels of pixels ends in stages, so that what follows a convolution, a pool or a product
is written once. A stage takes float32 vectors and gives float32 vectors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

from tvm import tirx

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder, Memory, index
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.codegen.narrowing import TOGETHER
from graphpress.backends.tvm.codegen.operators import FUNCTIONS
from graphpress.backends.tvm.codegen.vectors import FLOAT, clamped, is_zero, splat, typed
from graphpress.backends.tvm.kernels.kernel import Pointer
from graphpress.backends.tvm.kernels.plane import Plane
from graphpress.backends.tvm.kernels.shared_code import number_of

RESULT = "result"
"""Name of the operand that a kernel writes."""


@dataclass(frozen=True)
class Position:
    """Where a vector of channels lies.

    Args:
        image: number of the image.
        y: row.
        x: pixel of the row.
        channel: the first channel.
    """

    image: Expr
    y: Expr
    x: Expr
    channel: Expr

    def within(self, plane: Plane) -> Expr:
        """Its offset in a plane of the same height and width; one row, or one pixel of a row, goes with all."""
        y, x = 0 if plane.height == 1 else self.y, 0 if plane.width == 1 else self.x
        return self.image * plane.size + plane.at(y, x) + self.channel

    def moved(self, channels: int) -> Position:
        """The same pixel, so many channels further."""
        return replace(self, channel=self.channel + channels)


@dataclass(frozen=True)
class StageContext:
    """Where stages work.

    Args:
        b: takes the statements.
        isa: the instruction set.
        memory: what the operands of the kernel point to, by name.
        lanes: channels of a vector.
    """

    b: KernelBuilder
    isa: Isa
    memory: Mapping[str, Memory]
    lanes: int

    def activation(self, operand: str, plane: Plane, position: Position) -> Expr:
        """A vector of another activation as float32; codes as the numbers that they are. A single channel is spread."""
        if plane.channels == 1:
            number = self.b.load(self.memory[operand], replace(position, channel=0).within(plane))
            return splat(as_numbers(number, 1, plane.dtype), self.lanes)
        vector = self.b.load(self.memory[operand], position.within(plane), self.lanes)
        return as_numbers(vector, self.lanes, plane.dtype)


BELOW_INT32 = ("bool", "uint8", "int8", "uint16", "int16")
"""Types that become int32 on their way to float32, which takes fewer instructions."""


def as_numbers(vector: Expr, lanes: int, dtype: str = "uint8") -> Expr:
    """Codes, or numbers of another type, as float32."""
    if dtype == FLOAT:
        return vector
    widened = vector.astype(typed("int32", lanes)) if dtype in BELOW_INT32 else vector
    return widened.astype(typed(FLOAT, lanes))


def as_elements(vector: Expr, lanes: int, dtype: str) -> Expr:
    """Float32 as elements of a type that holds them: floats are rounded, integers are so already."""
    whole = vector.astype(typed("int32", lanes)) if dtype in BELOW_INT32 else vector
    return whole.astype(typed(dtype, lanes))


def numbers_in(vector: Expr, lanes: int, dtype: str, zero_point: int = 0) -> Expr:
    """What a vector of a type means, as float32: codes less their zero-point, floats as they are."""
    if dtype == FLOAT:
        return vector
    return as_numbers(vector, lanes, dtype) - splat(float(zero_point), lanes)


class VectorStage(Protocol):
    """Maps a vector of channels of one pixel."""

    @property
    def operands(self) -> Sequence[Pointer]:
        """What it reads beside the vector."""
        ...

    def apply(self, place: StageContext, vector: Expr, position: Position) -> Expr:
        """The vector that it becomes."""
        ...


@dataclass(frozen=True)
class Scale:
    """Multiply each channel by a number of its own: the scale of an integer product.

    Args:
        operand: name of the numbers, one per channel.
    """

    operand: str = "scales"

    @property
    def operands(self) -> Sequence[Pointer]:
        """The numbers."""
        return [Pointer(self.operand, FLOAT)]

    def apply(self, place: StageContext, vector: Expr, position: Position) -> Expr:
        """One multiplication."""
        return vector * place.b.load(place.memory[self.operand], position.channel, place.lanes)


@dataclass(frozen=True)
class Multiply:
    """Multiply by a number.

    Args:
        factor: the number.
    """

    factor: float = field(metadata=number_of(FLOAT))

    @property
    def operands(self) -> Sequence[Pointer]:
        """None."""
        return []

    def apply(self, place: StageContext, vector: Expr, position: Position) -> Expr:
        """One multiplication."""
        return vector * splat(self.factor, place.lanes)


@dataclass(frozen=True)
class Divide:
    """Divide by a number, as a quantizer does: the reciprocal would round otherwise.

    Args:
        divisor: the number.
    """

    divisor: float

    @property
    def operands(self) -> Sequence[Pointer]:
        """None."""
        return []

    def apply(self, place: StageContext, vector: Expr, position: Position) -> Expr:
        """One division."""
        return vector / splat(self.divisor, place.lanes)


@dataclass(frozen=True)
class DivideByExtent:
    """Divide by how many numbers there are in this run: a sum becomes a mean.

    Args:
        extent: how many there are.
    """

    extent: int

    @property
    def operands(self) -> Sequence[Pointer]:
        """None."""
        return []

    def apply(self, place: StageContext, vector: Expr, position: Position) -> Expr:
        """One division."""
        count = index(place.b.value(self.extent)).astype(FLOAT)
        return vector / splat(count, place.lanes)


@dataclass(frozen=True)
class Round:
    """Round to integers and saturate: to the grid of codes on which a value is meant to lie.

    Args:
        low: smallest code less the zero-point.
        high: largest code less the zero-point.
    """

    low: int = field(metadata=number_of(FLOAT))
    high: int = field(metadata=number_of(FLOAT))

    @property
    def operands(self) -> Sequence[Pointer]:
        """None."""
        return []

    def apply(self, place: StageContext, vector: Expr, position: Position) -> Expr:
        """Ties go to even, as everywhere."""
        low, high = (splat(end, place.lanes) for end in (self.low, self.high))
        return clamped(tirx.nearbyint(vector), low, high)


@dataclass(frozen=True)
class Add:
    """Add another activation: ``vector · ratio + (other - zero_point) · other_ratio``.

    Args:
        plane: layout of the other.
        operand: name of the other.
        ratio: of the units of the vector to those of the sum.
        other_ratio: of the units of the other to those of the sum.
        zero_point: of the other.
    """

    plane: Plane
    operand: str = "residual"
    ratio: float = 1.0
    other_ratio: float = 1.0
    zero_point: int = 0

    @property
    def operands(self) -> Sequence[Pointer]:
        """The other activation."""
        return [Pointer(self.operand, self.plane.dtype)]

    def apply(self, place: StageContext, vector: Expr, position: Position) -> Expr:
        """In float32."""
        lanes = place.lanes
        other = place.activation(self.operand, self.plane, position)
        scaled = vector if self.ratio == 1.0 else vector * splat(self.ratio, lanes)
        if self.other_ratio == 1.0 and self.zero_point == 0:
            return scaled + other
        return scaled + (other * splat(self.other_ratio, lanes) + splat(-self.zero_point * self.other_ratio, lanes))


@dataclass(frozen=True)
class AddCodes:
    """Add another activation where both are codes and so is the sum, exactly as ONNX Runtime's QLinearAdd does.

        fma(a, ratio_a, fma(b, ratio_b, fixed))   with  fixed = zero_point - (ratio_a · zero_a + ratio_b · zero_b)

    in float32: which of the two comes first decides ties, as do the codes themselves, with their zero-points in them.

    Args:
        plane: layout of the other.
        ratios: of the units of the vector, and of the other, to those of the sum.
        fixed: the constant.
        moved: what is added to the vector, and to the other, to be the codes of the model.
        zero_point: of the sum.
        comes_first: whether the vector is the first operand.
        operand: name of the other.
    """

    plane: Plane
    ratios: tuple[float, float] = field(metadata=number_of(FLOAT))
    fixed: float = field(metadata=number_of(FLOAT))
    moved: tuple[int, int] = field(metadata=number_of(FLOAT))
    zero_point: int = field(metadata=number_of(FLOAT))
    comes_first: bool = True
    operand: str = "residual"

    @property
    def operands(self) -> Sequence[Pointer]:
        """The other activation."""
        return [Pointer(self.operand, self.plane.dtype)]

    def apply(self, place: StageContext, vector: Expr, position: Position) -> Expr:
        """The sum less its zero-point: rounded before, where subtracting would round."""
        lanes = place.lanes
        other = place.activation(self.operand, self.plane, position)
        factors = [
            (codes if is_zero(moved) else codes + splat(moved, lanes)) * splat(ratio, lanes)
            for codes, moved, ratio in zip((vector, other), self.moved, self.ratios, strict=True)
        ]
        first, second = factors if self.comes_first else reversed(factors)
        total = first + (second + splat(self.fixed, lanes))
        if is_zero(self.zero_point):
            return total
        return tirx.nearbyint(total) - splat(self.zero_point, lanes)


@dataclass(frozen=True)
class Clip:
    """Limits; None where there is none."""

    low: float | None = None
    high: float | None = None

    @property
    def operands(self) -> Sequence[Pointer]:
        """None."""
        return []

    def apply(self, place: StageContext, vector: Expr, position: Position) -> Expr:
        """At most two instructions."""
        ends = [None if end is None else splat(end, place.lanes) for end in (self.low, self.high)]
        return clamped(vector, ends[0], ends[1])


@dataclass(frozen=True)
class ApplyFunction:
    """A function of one number.

    Args:
        function: a key of ``FUNCTIONS``.
        parameters: of it, where they are not its defaults.
    """

    function: str
    parameters: tuple[float, ...] = ()

    @property
    def operands(self) -> Sequence[Pointer]:
        """None."""
        return []

    def apply(self, place: StageContext, vector: Expr, position: Position) -> Expr:
        """In float32."""
        return FUNCTIONS[self.function](place.b, place.b.let(vector), place.lanes, *self.parameters)


def operands_of(stages: Sequence[VectorStage]) -> list[Pointer]:
    """What stages read beside the vector, in their order."""
    return [operand for stage in stages for operand in stage.operands]


def operands_between(source: str, stages: Sequence[VectorStage], result: str) -> list[Pointer]:
    """All operands of a kernel that reads one source: it, what the stages read, and the result.

    Args:
        source: type of its elements.
        stages: of the kernel.
        result: type of its elements.
    """
    return [Pointer("source", source), *operands_of(stages), Pointer(RESULT, result)]


def run_stages(stages: Sequence[VectorStage], place: StageContext, vector: Expr, position: Position) -> Expr:
    """A vector through all stages."""
    for stage in stages:
        vector = stage.apply(place, vector, position)
    return vector


TABLE = "table"
"""Name of the operand that holds a table of codes."""


@dataclass(frozen=True)
class LookUp:
    """Map codes by a table, as the last stage: ``Destination`` does it, once it has made codes of the numbers."""

    @property
    def operands(self) -> Sequence[Pointer]:
        """The table: 256 bytes."""
        return [Pointer(TABLE, "uint8")]

    def apply(self, place: StageContext, vector: Expr, position: Position) -> Expr:
        """Still the vector."""
        return vector


class VectorRun(NamedTuple):
    """Vectors of neighboring channels of a pixel.

    Args:
        first: where the first lies.
        vectors: one after another.
    """

    first: Position
    vectors: Sequence[Expr]

    def position(self, channels: int) -> Position:
        """So many channels behind the first."""
        return self.first.moved(channels) if channels else self.first


@dataclass(frozen=True)
class Destination:
    """The end of an epilogue: numbers or codes into a plane.

    Args:
        plane: layout of the result.
        zero_point: of codes: of those that are looked up, where they are.
        looks_up: whether codes are mapped by a table (``LookUp``).
    """

    plane: Plane
    zero_point: int = field(default=0, metadata=number_of("int32"))
    looks_up: bool = False

    def write(self, place: StageContext, vector: Expr, position: Position, step: int = 1) -> None:
        """Write one vector, its elements ``step`` apart; codes are what it holds, rounded, plus the zero-point."""
        if self.plane.dtype == place.isa.dot.activations:
            vector = self._mapped(place, place.isa.codes(vector, self.zero_point, place.lanes), place.lanes)
        elif self.plane.dtype != FLOAT:
            vector = as_elements(vector, place.lanes, self.plane.dtype)
        place.b.store(place.memory[RESULT], position.within(self.plane), vector, place.lanes, step)

    def write_all(self, place: StageContext, runs: Sequence[VectorRun]) -> None:
        """Write many vectors; codes are narrowed together, and stored together where they are neighbors."""
        together = TOGETHER if self._narrows_together(place) else 1
        apart: list[tuple[Expr, Position]] = []
        for run in runs:
            whole = len(run.vectors) - len(run.vectors) % together
            for start in range(0, whole, together):
                self._write_neighbors(place, run.vectors[start : start + together], run.position(start * place.lanes))
            apart += [(vector, run.position((whole + n) * place.lanes)) for n, vector in enumerate(run.vectors[whole:])]
        for start in range(0, len(apart), together):
            self._write_apart(place, apart[start : start + together])

    def write_zipped(self, place: StageContext, vectors: Sequence[Expr], position: Position) -> None:
        """Write four vectors whose lanes are in the order of ``zipped``, as codes; only where they are narrowed."""
        codes = place.isa.narrowed_codes(vectors, self.zero_point, zipped=True)
        self._store_together(place, codes, position)

    def _narrows_together(self, place: StageContext) -> bool:
        codes = self.plane.dtype == place.isa.dot.activations
        return place.isa.narrowing is not None and codes and place.lanes == place.isa.lanes

    def _write_neighbors(self, place: StageContext, vectors: Sequence[Expr], position: Position) -> None:
        if len(vectors) == 1:
            self.write(place, vectors[0], position)
            return
        self._store_together(place, place.isa.narrowed_codes(vectors, self.zero_point), position)

    def _store_together(self, place: StageContext, codes: Expr, position: Position) -> None:
        count = TOGETHER * place.lanes
        place.b.store(
            place.memory[RESULT], position.within(self.plane), self._mapped(place, place.b.let(codes), count), count
        )

    def _write_apart(self, place: StageContext, results: Sequence[tuple[Expr, Position]]) -> None:
        """A few vectors, each to its place; one that is alone is narrowed alone, unless codes are looked up."""
        lanes = place.lanes
        if not self._narrows_together(place) or (len(results) == 1 and not self.looks_up):
            for vector, position in results:
                self.write(place, vector, position)
            return
        filled = [vector for vector, _ in results] + [splat(0.0, lanes)] * (TOGETHER - len(results))
        narrowed = place.b.let(place.isa.narrowed_codes(filled, self.zero_point))
        codes = place.b.let(self._mapped(place, narrowed, TOGETHER * lanes))
        for number, (_, position) in enumerate(results):
            part = tirx.Shuffle([codes], [tirx.const(number * lanes + lane, "int32") for lane in range(lanes)])
            place.b.store(place.memory[RESULT], position.within(self.plane), part, lanes)

    def _mapped(self, place: StageContext, codes: Expr, count: int) -> Expr:
        """Codes by the table, where there is one."""
        return place.isa.looked_up(place.b, place.memory[TABLE], codes, count) if self.looks_up else codes
