"""What has to be exact, or near zero, and therefore keeps float32.

sizes        shapes, and what follows from them alone: it costs nothing beside the model
positions    coordinates, angles, what is rounded: an error there is one of place, not of value
near zero    a constant such as 1e-12 that guards a division, and the arithmetic around it
"""

from __future__ import annotations

import numpy as np

from graphpress.analysis.islands import moves_data
from graphpress.ir import DataType, Model, Node, Value, constant, input_of, is_constant, is_standard, label
from graphpress.ir.float_types import round_to
from graphpress.passes.precision._plan import PrecisionPlan, is_float

_ARITHMETIC = ("Abs", "Add", "Cast", "Clip", "Div", "MatMul", "Max", "Mean", "Min", "Mul", "Neg", "Pow", "ReduceL2",
               "ReduceMean", "ReduceSum", "ReduceSumSquare", "Sqrt", "Sub", "Sum", "Where")  # fmt: skip

_ANGLES = ("Cos", "Sin", "Tan")
_GRIDS = ("Ceil", "Floor", "Mod", "Round")
_PLACES = {"GridSample": 1, "NonMaxSuppression": 0, "RoiAlign": 1}
"""Inputs that hold positions."""


def strike_sizes(plan: PrecisionPlan, model: Model) -> int:
    """Strike out what follows from sizes of tensors alone: positions, shapes, the masks made of them.

    Returns:
        How many nodes there were.
    """
    known = {value for value in model.graph.initializers.values() if _is_setting(value)}
    for node in model.graph:
        starts = is_standard(node, "Shape", "Size") or any(map(_is_setting, node.outputs))
        follows = node.inputs and all(value in known for value in node.inputs if value is not None)
        if starts or (follows and is_standard(node)):
            known.update(node.outputs)
    arithmetic = [node for node in plan.nodes if node.inputs and known.issuperset(node.outputs)]
    for node in arithmetic:
        del plan.nodes[node]
    return len(arithmetic)


def _is_setting(value: Value) -> bool:
    """Whether it is a constant other than learned weights, tables and queries: what follows from those is content."""
    return is_constant(value) and not (_is_matrix(value) and value.dtype == DataType.FLOAT)


def strike_positions(plan: PrecisionPlan, model: Model) -> None:
    """Strike out what computes positions: arithmetic whose result is an angle, is rounded, or is a position."""
    for node in model.graph:
        if not is_standard(node):
            continue
        if node.op_type in (*_ANGLES, *_GRIDS):
            plan.strike(node, f"{node.op_type} is a matter of position, which {plan.dtype} would move")
        if node.op_type in (*_ANGLES, *_GRIDS, *_PLACES) or _to_integer(node, plan):
            value = input_of(node, _PLACES.get(node.op_type, 0))
            before = None if value is None else value.producer()
            if before is not None and _is_arithmetic(before):
                why = f"it computes a position for {label(node)}, which {plan.dtype} would move"
                plan.strike(before, why)
                _strike_before(before, plan, why)


def strike_tiny_constants(plan: PrecisionPlan) -> None:
    """Keep in float32 what reads a constant that would become zero, and the arithmetic around it.

    A 1e-12 that keeps a normalization from dividing by zero would do so no more. What divides by the outcome or takes
    its root stays beside it, and so does what comes before: where so little is added, numbers as small matter.
    """
    for node in list(plan.nodes):
        for _, value in plan.inputs(node):
            if (tiny := _vanishing(value, plan.dtype)) is not None:
                plan.strike(node, f"its constant {label(value)} ({tiny:.3g}) would become zero in {plan.dtype}")
                _strike_behind(node, plan)
                _strike_before(node, plan, f"{label(node)} tells its result from zero, which {plan.dtype} would not")
                break


def _strike_behind(start: Node, plan: PrecisionPlan) -> None:
    waiting = [start]
    while waiting:
        node = waiting.pop()
        for use in (use for output in node.outputs for use in output.uses()):
            divides = use.node.op_type in ("Log", "Pow", "Reciprocal") or (use.node.op_type == "Div" and use.idx == 1)
            passes = use.node.op_type == "Sqrt" or moves_data(use.node)
            if use.node in plan.nodes and (divides or passes):
                plan.strike(use.node, f"it divides by or roots what {label(start)} keeps from being zero")
                waiting += [use.node] if passes else []


def _strike_before(start: Node, plan: PrecisionPlan, why: str) -> None:
    """Strike out the arithmetic without weights that leads to a node and nowhere else."""
    waiting = [value for value in start.inputs if value is not None]
    while waiting:
        value = waiting.pop()
        node = value.producer()
        leads_elsewhere = value.is_graph_output() or any(use.node in plan.nodes for use in value.uses())
        if node in plan.nodes and not leads_elsewhere and (_is_arithmetic(node) or moves_data(node)):
            plan.strike(node, why)
            waiting += [value for _, value in plan.inputs(node)]


def _vanishing(value: Value, dtype: str) -> float | None:
    array = constant(value)
    if array is None or not array.size:
        return None
    top = float(np.max(np.abs(array)))
    return top if top > 0 and not np.any(round_to(np.array(top), dtype)) else None


def _to_integer(node: Node, plan: PrecisionPlan) -> bool:
    to = plan.types.get(node.outputs[0]) if is_standard(node, "Cast") else None
    return to is not None and to.is_integer() and is_float(node.inputs[0], plan)


def _is_arithmetic(node: Node) -> bool:
    """Whether the node computes as one writes formulas, without weights."""
    return is_standard(node, *_ARITHMETIC) and not any(
        is_constant(operand) and _is_matrix(operand) for operand in node.inputs
    )


def _is_matrix(value: Value | None) -> bool:
    return (
        value is not None
        and value.shape is not None
        and len(value.shape) > 1
        and sum(dim != 1 for dim in value.shape) > 1
    )
