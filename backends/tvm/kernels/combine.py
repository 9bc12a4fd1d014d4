"""Stages that combine a vector with a second one: another operand's, or what other stages make of the vector itself.

Combine    f(vector, (other - zero_point) · unit)      the other spread over rows, pixels or channels where it has one
Gate       vector · stages(vector)                     x · sigmoid(x) where both are nodes, each rounded to codes
Choose     one of two where a third is true            the vector is any of the three
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx

from graphpress.backends.tvm.codegen.builder import Expr
from graphpress.backends.tvm.codegen.operators import BINARY_FUNCTIONS
from graphpress.backends.tvm.codegen.vectors import splat
from graphpress.backends.tvm.kernels.kernel import Pointer
from graphpress.backends.tvm.kernels.plane import Plane
from graphpress.backends.tvm.kernels.stages import Position, StageContext, VectorStage, operands_of, run_stages


@dataclass(frozen=True)
class OtherVector:
    """Another operand of a function of several: real numbers, wherever it lies in codes.

    Args:
        plane: layout of it: an activation, or a constant that all images share.
        name: of the pointer.
        unit: of its numbers.
        zero_point: of its codes.
    """

    plane: Plane
    name: str
    unit: float = 1.0
    zero_point: int = 0

    @property
    def pointer(self) -> Pointer:
        """What a kernel reads it from."""
        return Pointer(self.name, self.plane.dtype)

    def read(self, place: StageContext, position: Position) -> Expr:
        """A vector of it, in float32."""
        numbers = place.activation(self.name, self.plane, position)
        if self.zero_point:
            numbers = numbers - splat(float(self.zero_point), place.lanes)
        return numbers if self.unit == 1.0 else numbers * splat(self.unit, place.lanes)


@dataclass(frozen=True)
class Combine:
    """A function of the vector and another operand.

    Args:
        function: a key of ``BINARY_FUNCTIONS``.
        plane: layout of the other: an activation, or a constant that all images share.
        operand: name of the other.
        unit: of the other's numbers.
        zero_point: of the other.
        swapped: whether the other is the first argument.
    """

    function: str
    plane: Plane
    operand: str
    unit: float = 1.0
    zero_point: int = 0
    swapped: bool = False

    @property
    def operands(self) -> Sequence[Pointer]:
        """The other operand."""
        return [Pointer(self.operand, self.plane.dtype)]

    def apply(self, place: StageContext, vector: Expr, position: Position) -> Expr:
        """In float32."""
        other = OtherVector(self.plane, self.operand, self.unit, self.zero_point).read(place, position)
        pair = [place.b.let(vector), place.b.let(other)]
        first, second = reversed(pair) if self.swapped else pair
        return BINARY_FUNCTIONS[self.function](place.b, first, second, place.lanes)


@dataclass(frozen=True)
class Gate:
    """The vector times what stages make of it.

    Args:
        stages: of the second factor.
    """

    stages: tuple[VectorStage, ...]

    @property
    def operands(self) -> Sequence[Pointer]:
        """What the stages read."""
        return operands_of(self.stages)

    def apply(self, place: StageContext, vector: Expr, position: Position) -> Expr:
        """One multiplication, behind the stages."""
        vector = place.b.let(vector)
        return vector * run_stages(self.stages, place, vector, position)


@dataclass(frozen=True)
class Choose:
    """One of two numbers where a third is true: the vector is one of the three.

    Args:
        place: of the vector among condition, what is taken where it holds, and what is taken elsewhere.
        others: the other two, in their order.
    """

    place: int
    others: tuple[OtherVector, OtherVector]

    @property
    def operands(self) -> Sequence[Pointer]:
        """Both others."""
        return [other.pointer for other in self.others]

    def apply(self, place: StageContext, vector: Expr, position: Position) -> Expr:
        """All three are there."""
        three = [other.read(place, position) for other in self.others]
        three.insert(self.place, vector)
        condition, taken, other = three
        return tirx.Select(condition != splat(0.0, place.lanes), taken, other)
