"""Which nodes are to compute in another float type, and why the others are not."""

from __future__ import annotations

from dataclasses import dataclass, field

from graphpress.analysis.islands import islands
from graphpress.ir import (
    DataType,
    Model,
    Node,
    Refusal,
    Value,
    is_constant,
    is_standard,
    present_outputs,
)
from graphpress.ir.encoding import float_type
from graphpress.ir.float_types import LARGEST, why_not
from graphpress.ir.signatures import Slots, float_slots, known_types, reads_any_type
from graphpress.manager.contract import Context
from graphpress.passes._kernels import choices_with_opset

_STAYS = "nothing: it computes as before"


@dataclass
class PrecisionPlan:
    """The nodes of a model that are to compute in another type; those that may not are struck out one by one.

    Args:
        dtype: the type, by its ONNX name in lower case.
        types: the types of all values.
        nodes: the nodes, in graph order; those that are annotated already among them.
        refusals: nodes that keep float32, with the reason.
    """

    dtype: str
    types: dict[Value, DataType]
    nodes: dict[Node, None] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)

    def strike(self, node: Node, why: str, fix: str = _STAYS) -> None:
        """Keep a node in float32."""
        if node in self.nodes:
            del self.nodes[node]
            self.refusals.append(Refusal.at(node, why, fix))

    def inputs(self, node: Node) -> list[tuple[int, Value]]:
        """Index and value of every input that would change its type."""
        slots = float_slots(node, DataType[self.dtype.upper()], self.types.get)
        indices = slots.inputs if isinstance(slots, Slots) else ()
        return [(index, value) for index in indices if (value := node.inputs[index]) is not None]

    def outputs(self, node: Node) -> list[Value]:
        """Every output that would change its type."""
        slots = float_slots(node, DataType[self.dtype.upper()], self.types.get)
        if not isinstance(slots, Slots):
            return []
        present = set(present_outputs(node))
        return [output for index in slots.outputs if (output := node.outputs[index]) in present]

    @property
    def limit(self) -> float:
        """The largest finite number of the type."""
        return LARGEST[self.dtype]


def plan_of(model: Model, dtype: str) -> PrecisionPlan:
    """All nodes of the main graph that compute in float32, those with a request for the type already among them.

    Those inside subgraphs and functions keep what they have: nobody sees how large their values become.
    """
    plan = PrecisionPlan(dtype, known_types(model))
    plan.nodes = {node: None for node in model.graph if float_type(node) in (None, dtype) and _computes(node, plan)}
    return plan


def strike_unable(plan: PrecisionPlan, keep: frozenset[str], context: Context) -> None:
    """Strike out what the user keeps, and operators that do not have the type."""
    for node in list(plan.nodes):
        if exclusion := context.exclusion(node):
            plan.strike(node, exclusion.why, exclusion.fix)
        elif node.op_type in keep:
            plan.strike(node, f"{node.op_type} is kept in float32", "name fewer operators in the field keep")
        elif unable := why_not(node, plan.dtype, plan.types):
            plan.strike(node, unable.why, _newer(unable.opset, context) if unable.opset else _STAYS)


def _newer(opset: int, context: Context) -> str:
    """How to come to an operator set."""
    if context.target.opset_max >= opset:
        return f"run raise_opset{{to={opset}}} first"
    return choices_with_opset(context.target, opset, _STAYS)


def _computes(node: Node, plan: PrecisionPlan) -> bool:
    """Whether the node makes float32, or compares it; not where it only follows its input (Shape) or is a constant."""
    if any(is_constant(output) for output in node.outputs):
        return False
    reads = [index for index, value in enumerate(node.inputs) if is_float(value, plan)]
    if any(is_float(output, plan) for output in node.outputs):
        return bool(reads) or is_standard(node, "Cast")
    kind = DataType[plan.dtype.upper()]
    return bool(reads) and not all(reads_any_type(node, index, kind, plan.types.get) for index in reads)


def is_float(value: Value | None, plan: PrecisionPlan) -> bool:
    """Whether the value is a float32 tensor."""
    return value is not None and plan.types.get(value) == DataType.FLOAT


def strike_islands(plan: PrecisionPlan) -> int:
    """Strike out nodes that only move data between nodes that stay float32: two Casts would be all they bring.

    Returns:
        How many there were.
    """
    alone = islands(plan.nodes)
    for node in alone:
        del plan.nodes[node]
    return len(alone)
