"""Compute in half precision wherever that is safe, by annotation.

    float16    11 bits of mantissa, magnitudes from 6e-8 to 65504
    bfloat16    8 bits of mantissa, magnitudes as in float32

Every node whose operator takes the type gets it as its float type; nodes that compute in integers get it for what is
not an integer in them: their bias, their result. Nodes keep float32

- that read or make a value which would overflow: constants by their contents, activations as the calibration data
  shows them (Micikevicius et al., arXiv 1710.03740, section 3: half precision fails by its range, not its mantissa),
- that multiply by weights or make values which all are so small that few bits of them would be left,
- whose sums of many values may overflow, or may hide what is added to them: as far as the data shows how large the
  values are, by their number alone else,
- that read a constant which would become zero, and what divides by the outcome,
- that compute positions, angles and sizes, where rounding is an error of place rather than of value,
- whose operator has no such type at the model's operator set, and those that the user excludes or keeps.

Masks of large negative numbers in front of a softmax are raised into range instead. The pass only annotates beside
that: ``materialize_float_types`` writes the types out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from graphpress.errors import UsageError
from graphpress.ir import Model, Node, Refusal
from graphpress.ir.encoding import compute_request, float_type, request_compute, set_float_type
from graphpress.manager.contract import Context, Outcome, Pass
from graphpress.passes.precision._exact import strike_positions, strike_sizes, strike_tiny_constants
from graphpress.passes.precision._masks import raise_masks
from graphpress.passes.precision._plan import PrecisionPlan, plan_of, strike_islands, strike_unable
from graphpress.passes.precision._ranges import ranges_of, strike_overflows, strike_underflows
from graphpress.passes.precision._sums import strike_sums

KEPT = ("CumSum",)
"""Running sums: each step adds a rounding to those before it."""


@dataclass(frozen=True)
class ReducePrecision(Pass):
    """Half precision where it is safe; calibration data shows what would overflow.

    Args:
        to: the float type.
        keep: operators that stay float32.
        headroom: values may grow by this factor beyond what the calibration data showed before they overflow.
    """

    name: ClassVar[str] = "reduce_precision"
    lossless: ClassVar[bool] = False

    to: Literal["float16", "bfloat16"] = "float16"
    keep: tuple[str, ...] = KEPT
    headroom: float = 2.0

    def __post_init__(self) -> None:
        if not self.headroom >= 1:
            raise UsageError(f"headroom must be 1 or more, not {self.headroom}", where=self.name, fix="2 is usual")

    def refuse(self, model: Model, context: Context) -> Refusal | None:
        """Needs a target that computes in the type."""
        if self.to not in context.target.kernels:
            return Refusal(
                self.name,
                f"this target does not compute in {self.to}",
                f"leave it out, or choose a type it has: {', '.join(context.target.kernels)}",
            )
        return super().refuse(model, context)

    def run(self, model: Model, context: Context) -> Outcome:
        """Find the nodes, strike out those that need float32, annotate the others."""
        plan = plan_of(model, self.to)
        before = [node for node in plan.nodes if float_type(node) is not None]
        sizes = strike_sizes(plan, model)
        strike_unable(plan, frozenset(self.keep), context)
        strike_positions(plan, model)
        strike_tiny_constants(plan)
        ranges = ranges_of(plan, model, context, self.headroom, f"{context.step}.{self.name}.ranges")
        raised = raise_masks(plan, model, ranges)
        strike_overflows(plan, ranges)
        strike_underflows(plan, ranges)
        strike_sums(plan, ranges)
        islands = strike_islands(plan)
        fresh, withdrawn = _annotate(plan, before)
        candidates = [
            (True, f"{fresh} nodes in {self.to}"),
            (withdrawn, f"{withdrawn} nodes that had it are back in float32"),
            (raised, f"{raised} masks in front of a softmax raised into the range of {self.to}"),
            (sizes, f"{sizes} nodes that compute from sizes stay as they are"),
            (islands, f"{islands} nodes that move float32 data stay as they are"),
            (context.calibration is None, "overflow of activations was not looked for: there is no calibration data"),
        ]
        return Outcome(fresh + withdrawn + raised, plan.refusals, [note for holds, note in candidates if holds])


def _annotate(plan: PrecisionPlan, before: list[Node]) -> tuple[int, int]:
    """Request the type of the nodes of the plan, and no longer of those that had a request and are struck out.

    Returns:
        How many nodes got the type, and how many lost it.
    """
    fresh = [node for node in plan.nodes if float_type(node) is None]
    withdrawn = [node for node in before if node not in plan.nodes]
    for node in fresh:
        set_float_type(node, plan.dtype)
        if compute_request(node) is None:
            request_compute(node, plan.dtype)
    for node in withdrawn:
        set_float_type(node, None)
        if compute_request(node) == plan.dtype:
            request_compute(node, None)
    return len(fresh), len(withdrawn)
