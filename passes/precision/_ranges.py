"""How large values are: constants by their contents, activations as the calibration data shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Annotated

import numpy as np

from graphpress.analysis.islands import moves_data
from graphpress.ir import Model, Node, Value, constant, input_of, is_standard, label, producer
from graphpress.manager.contract import Context
from graphpress.observation import observe
from graphpress.ops import lookup
from graphpress.passes.precision._plan import PrecisionPlan
from graphpress.validation import ascending

Range = tuple[float, float]
"""Smallest and largest finite element."""

MANTISSA = {"float16": 11, "bfloat16": 8}
"""Bits of each type: whole numbers are exact up to two to that power."""

SMALLEST = {"float16": 2.0**-16, "bfloat16": 2.0**-126}
"""Tensors whose largest number is below this keep fewer than 8 bits of it."""

_KEEPS_MAGNITUDE = ("Add", "Expand", "Mul", "Trilu", "Where")


class FiniteRange:
    """The extrema of the finite elements seen (an infinity is infinite in every type), and the largest sizes."""

    def __init__(self) -> None:
        self.low, self.high = np.inf, -np.inf
        self.sizes: tuple[int, ...] = ()

    def update(self, array: np.ndarray) -> None:
        """Take in one batch."""
        low, high = finite_range(array) or (np.inf, -np.inf)
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.sizes = tuple(map(max, zip_longest(self.sizes, array.shape, fillvalue=0)))

    @property
    def range(self) -> Range:
        """The extrema; zeros where nothing finite was seen."""
        return (self.low, self.high) if self.low <= self.high else (0.0, 0.0)


def finite_range(array: np.ndarray) -> Range | None:
    """Smallest and largest finite element; None where there is none."""
    if not array.size:
        return None
    low, high = float(array.min()), float(array.max())
    if not np.isfinite([low, high]).all():
        finite = array[np.isfinite(array)]
        if not finite.size:
            return None
        low, high = float(finite.min()), float(finite.max())
    return low, high


@dataclass
class Ranges:
    """Ranges by value; a value of which nothing is known is taken to fit.

    Args:
        known: ranges that were seen or follow.
        headroom: unseen data may reach further than what was seen, by this factor.
        limit: the largest finite number of the type.
        shapes: the largest sizes that were seen, by value.
    """

    known: dict[Value, Range]
    headroom: float
    limit: float
    shapes: Mapping[Value, Sequence[int]] = field(default_factory=dict)

    def largest(self, value: Value) -> float:
        """The largest magnitude."""
        return max(map(abs, self.known.get(value, (0.0,))))

    def sizes(self, value: Value) -> Sequence[int | None] | None:
        """The size of each axis as it was seen, else as the model declares it; None for what neither says."""
        if value in self.shapes or value.shape is None:
            return self.shapes.get(value)
        return [dim if isinstance(dim, int) else None for dim in value.shape]

    def excess(self, value: Value) -> float | None:
        """The magnitude by which the value would become infinite; None where it fits."""
        largest = self.largest(value)
        headroom = 1.0 if constant(value) is not None else self.headroom
        return largest if largest * headroom > self.limit else None

    def is_negative_mask(self, value: Value) -> bool:
        """Whether it is only below that the value does not fit."""
        low, high = self.known.get(value, (0.0, 0.0))
        return low * self.headroom < -self.limit and high * self.headroom <= self.limit


def ranges_of(plan: PrecisionPlan, model: Model, context: Context, headroom: float, key: str) -> Ranges:
    """Ranges of everything that the nodes of the plan read and make.

    Follows the decision recorded under ``key`` where there is one, else records what was observed.
    """
    values = dict.fromkeys(value for node in plan.nodes for _, value in plan.inputs(node))
    values |= dict.fromkeys(value for node in plan.nodes for value in plan.outputs(node))
    known: dict[Value, Range] = {}
    wanted: dict[str, Value] = {}
    for value in values:
        array = constant(value)
        if array is None:
            wanted[label(value)] = value
        elif (bounds := finite_range(array)) is not None:
            known[value] = bounds
    observed, sizes = _observed(model, wanted, context, key)
    known |= {value: observed[name] for name, value in wanted.items() if name in observed}
    if context.calibration is None:
        _assume(model, known, plan.limit)
    shapes = {value: sizes[name] for name, value in wanted.items() if name in sizes}
    return Ranges(known, headroom, plan.limit, shapes)


def _observed(
    model: Model, wanted: Mapping[str, Value], context: Context, key: str
) -> tuple[Mapping[str, Range], Mapping[str, tuple[int, ...]]]:
    """Ranges as the data shows them, and sizes."""
    ranges: dict[str, Range] | None = context.recorded(key, dict[str, Annotated[Range, ascending()]])
    sizes: dict[str, tuple[int, ...]] = context.recorded(f"{key}.sizes", dict[str, tuple[int, ...]]) or {}
    if ranges is None or not wanted.keys() <= ranges.keys():
        if context.calibration is None:
            return {}, {}
        observers = {name: FiniteRange() for name in wanted}
        observe(model, observers, context.calibration, threads=context.threads, progress=context.progress)
        ranges = context.decisions[key] = {name: seen.range for name, seen in observers.items()}
        sizes = context.decisions[f"{key}.sizes"] = {name: seen.sizes for name, seen in observers.items()}
    return ranges, sizes


def _assume(model: Model, known: dict[Value, Range], limit: float) -> None:
    """Without data: what is made from a constant that does not fit, by a node that keeps magnitudes, does not fit."""
    for node in model.graph:
        spans = [span for value in node.inputs if value is not None and (span := _span(value, known)) is not None]
        large = [(low, high) for low, high in spans if max(-low, high) > limit]
        if large and (moves_data(node) or is_standard(node, *_KEEPS_MAGNITUDE)):
            span = min(0.0, *(low for low, _ in large)), max(0.0, *(high for _, high in large))
            known |= dict.fromkeys(node.outputs, span)


def _span(value: Value, known: dict[Value, Range]) -> Range | None:
    """The range of a value, read off the constant that it is or is filled with."""
    filled = producer(value, "ConstantOfShape")
    attribute = None if filled is None else filled.attributes.get("value")
    array = constant(value) if attribute is None else attribute.as_tensor().numpy()
    return known.get(value) if value in known or array is None or array.dtype.kind != "f" else finite_range(array)


def strike_overflows(plan: PrecisionPlan, ranges: Ranges) -> None:
    """Keep in float32 every node that reads or makes a value which would become infinite."""
    for node in list(plan.nodes):
        inputs = [value for _, value in plan.inputs(node)]
        for value in (*inputs, *plan.outputs(node)):
            excess = ranges.excess(value)
            if excess is not None:
                plan.strike(
                    node,
                    f"{label(value)} reaches {excess:.3g}, and {plan.dtype} ends at {plan.limit:.3g}",
                    "scale the values down, or leave it float32",
                )
                break
        top = max((ranges.largest(value) for value in plan.outputs(node)), default=0.0)
        if _from_integer(node, plan) and top > (exact := 2.0 ** MANTISSA[plan.dtype]):
            plan.strike(node, f"it reaches {top:.6g}, and {plan.dtype} counts in ones to {exact:.6g} only")


def strike_underflows(plan: PrecisionPlan, ranges: Ranges) -> None:
    """Keep in float32 what multiplies by weights, or makes values, so small that few bits of them are left.

    What is added may be small beside the rest, and single numbers are a matter of ``strike_tiny_constants``.
    """
    smallest = SMALLEST[plan.dtype]
    for node in list(plan.nodes):
        for value in (*_multipliers(node, plan), *plan.outputs(node)):
            if 0 < (largest := ranges.largest(value)) < smallest:
                plan.strike(
                    node,
                    f"{label(value)} reaches {largest:.3g} at most, of which {plan.dtype} keeps few bits",
                    "scale the values up, or leave it float32",
                )
                break


def _multipliers(node: Node, plan: PrecisionPlan) -> list[Value]:
    """The constant weight that the node multiplies by, if it has one."""
    spec = lookup(node.op_type)
    index = None if spec is None or not is_standard(node) else spec.quantization.weight
    return [value for place, value in plan.inputs(node) if place == index and constant(value) is not None]


def _from_integer(node: Node, plan: PrecisionPlan) -> bool:
    before = input_of(node, 0) if is_standard(node, "Cast") else None
    kind = None if before is None else plan.types.get(before)
    return kind is not None and kind.is_integer()
