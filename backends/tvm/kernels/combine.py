"""Stages that combine a vector with a second one: another operand's, or what other stages make of the vector itself.

Combine    f(vector, (other - zero_point) · unit)      the other spread over rows, pixels or channels where it has one
Gate       vector · stages(vector)                     x · sigmoid(x) where both are nodes, each rounded to codes
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx

from graphpress.backends.tvm.codegen.builder import Expr
from graphpress.backends.tvm.codegen.operators import BINARY_FUNCTIONS
from graphpress.backends.tvm.codegen.vectors import FLOAT, splat
from graphpress.backends.tvm.kernels.kernel import Pointer
from graphpress.backends.tvm.kernels.plane import Plane
from graphpress.backends.tvm.kernels.stages import Position, StageContext, VectorStage, operands_of, run_stages


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
        other = place.activation(self.operand, self.plane, position)
        if self.zero_point:
            other = other - splat(float(self.zero_point), place.lanes)
        if self.unit != 1.0:
            other = other * splat(self.unit, place.lanes)
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
    """One of two operands where a third is true: the vector is the condition.

    Args:
        planes: layouts of what is taken where it is true, and where it is false.
        names: of both.
    """

    planes: tuple[Plane, Plane]
    names: tuple[str, str]

    @property
    def operands(self) -> Sequence[Pointer]:
        """Both operands."""
        return [Pointer(name, plane.dtype) for name, plane in zip(self.names, self.planes, strict=True)]

    def apply(self, place: StageContext, vector: Expr, position: Position) -> Expr:
        """Both are read."""
        taken, other = (
            place.activation(name, plane, position) for name, plane in zip(self.names, self.planes, strict=True)
        )
        return tirx.Select(vector != splat(0.0, place.lanes, FLOAT), taken, other)
