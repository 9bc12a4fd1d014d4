"""Static quantization to 8 bits after training, by annotation.

    q = clamp(round(x / s) + z),   x ≈ s · (q − z)          (Jacob et al., arXiv 1712.05877, equation 1)

Weights are symmetric (z = 0), one scale per output channel, s = max|w| / q_max. Activations take one scale a
tensor from the observed range, widened to hold zero exactly (padding and Relu need it). The bias of an integer
convolution lives on the accumulator's grid: s_bias = s_input · s_weight, z = 0.

In float8 (Micikevicius et al., arXiv 2209.05433, the format e4m3) q is the nearest number of the format and z = 0:
s = max|x| / 448 for weights and activations alike, saturating. Its steps grow with the numbers, so that one scale
serves channels of unlike magnitude.

The pass only annotates: which nodes, which uses and which integer types follow from the target's policy, and the
backend expresses the annotations in its own form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from graphpress.errors import DataError, UsageError
from graphpress.ir import Editor, Model, Node, Refusal, Value, label
from graphpress.ir.encoding import FLOAT8, request_compute
from graphpress.manager.contract import Context, Outcome, Pass
from graphpress.passes._kernels import lacking_opset, targets_with
from graphpress.passes.quantize._bodies import encode_bodies
from graphpress.passes.quantize._calibrate import Calibration, Method
from graphpress.passes.quantize._encode import encode_activations, encode_bias, encode_constants
from graphpress.passes.quantize._left_float import left_float
from graphpress.passes.quantize._placement import Placement, Reason, place
from graphpress.passes.quantize._ranges import Range, has_scale
from graphpress.passes.quantize._tables import encode_tables
from graphpress.targets import QuantizationPolicy

NOT_FINITE = Reason(
    "takes infinite or undefined values on the calibration data", "leave it float, or check the preprocessing"
)

NOTHING = "nothing was left to quantize that has an integer kernel on this target"

SMALLEST_OPSET = {"int8": 13, FLOAT8: 19}
"""From here on QuantizeLinear knows an axis, and an 8-bit float."""


@dataclass(frozen=True)
class Quantize(Pass):
    """Convolutions and matrix products in 8 bits, with static ranges from calibration data.

    Args:
        dtype: ``int8``, or ``float8e4m3fn`` where the target has kernels for it.
        calibration_method: how the range of an activation follows from what was observed.
        percentile: for ``percentile``: this much of the values lies inside the range at either end.
        per_channel: one weight scale per output channel; None leaves it to the target, in float8 it is one a tensor.
    """

    name: ClassVar[str] = "quantize"
    lossless: ClassVar[bool] = False
    needs_data: ClassVar[bool] = True

    dtype: Literal["int8", "float8e4m3fn"] = "int8"
    calibration_method: Method = "mse"
    percentile: float = 99.99
    per_channel: bool | None = None

    def __post_init__(self) -> None:
        if not 50 < self.percentile <= 100:
            raise UsageError(
                f"percentile must lie above 50 and be at most 100, not {self.percentile}",
                where=self.name,
                fix="99.99 is usual",
            )

    def refuse(self, model: Model, context: Context) -> Refusal | None:
        """Needs data, kernels of the type, and an operator set that can express it."""
        if self.dtype not in context.target.kernels:
            return Refusal(self.name, f"this target has no {self.dtype} kernels", targets_with(self.dtype))
        return lacking_opset(self.name, model, SMALLEST_OPSET[self.dtype]) or super().refuse(model, context)

    def run(self, model: Model, context: Context) -> Outcome:
        """Place, observe, encode."""
        policy = self._policy(context.target.quantization)
        placement = place(model.graph, policy, context)
        if not placement.nodes:
            return self._with_others(model, placement, policy, context, NOTHING)
        calibration = Calibration(self.calibration_method, self.percentile)
        ranges = calibration.ranges(model, placement, policy, context, f"{context.step}.{self.name}.ranges")
        unusable = {value: why for value in placement.activations if (why := _unusable(ranges[label(value)], policy))}
        if unusable:
            _check_inputs({value for value, why in unusable.items() if why is NOT_FINITE})
            placement = place(model.graph, policy, context, unusable)
        if not placement.nodes:
            return self._with_others(model, placement, policy, context, NOTHING)
        encode_activations(
            placement, {name: observed for name, observed in ranges.items() if observed is not None}, policy
        )
        edit = Editor(model)
        for node in placement.nodes:
            request_compute(node, self.dtype)
            encode_constants(node, policy, self.per_channel, placement)
        for node in placement.nodes:
            encode_bias(node, policy, edit)
        kind = "integers" if self.dtype == "int8" else self.dtype
        note = f"{len(placement.nodes)} nodes in {kind}, {len(placement.activations)} activations encoded"
        return self._with_others(model, placement, policy, context, note)

    def _with_others(
        self, model: Model, placement: Placement, policy: QuantizationPolicy, context: Context, note: str
    ) -> Outcome:
        """Encode what needs no ranges, and say what became of everything."""
        no_others: tuple[int, list[Refusal]] = (0, [])
        tables, floats = no_others if self.dtype == FLOAT8 else encode_tables(model.graph, policy, context)
        bodies, inside = no_others if self.dtype == FLOAT8 else encode_bodies(model, context)
        notes = [note]
        if tables:
            notes.append(f"{tables} tables in integers, a scale a row")
        if bodies:
            notes.append(f"{bodies} products inside other nodes with integer weights: nothing is observed there")
        told = [*placement.refusals, *floats, *inside]
        return Outcome(len(placement.nodes) + tables + bodies, _refusals(model, told, policy, context), notes)

    def _policy(self, policy: QuantizationPolicy) -> QuantizationPolicy:
        """The target's policy, for this type."""
        if self.dtype != FLOAT8:
            return policy
        return replace(
            policy,
            activations=FLOAT8,
            symmetric_activations=True,
            weights=FLOAT8,
            per_channel=False,
            reduced_range=False,
            bias="float32",
            pass_through_ops=tuple(
                op_type for op_type in policy.pass_through_ops if op_type not in policy.float8_excluded
            ),
        )


def _refusals(model: Model, told: Sequence[Refusal], policy: QuantizationPolicy, context: Context) -> list[Refusal]:
    """Why every layer that stays float does."""

    def why(node: Node) -> str:
        if node.op_type in policy.compute_ops:
            return "a value beside it stays float, for the reason that is given there"
        return f"this target has no integer kernel for {node.op_type}"

    return [*told, *left_float(model, context, told, why)]


def _unusable(observed: Range | None, policy: QuantizationPolicy) -> Reason | None:
    """Why an activation with this range cannot be encoded, and what to do; None where it can."""
    if observed is None:
        return NOT_FINITE
    if has_scale(observed, policy):
        return None
    why = f"lies between {observed[0]:.3g} and {observed[1]:.3g}, for which {policy.scales} holds no scale"
    return Reason(why, "scale the values, or leave it float")


def _check_inputs(unusable: set[Value]) -> None:
    """What the model computes may be infinite (a mask, say); what the user feeds it may not."""
    for value in sorted(unusable, key=label):
        if value.is_graph_input():
            raise DataError(
                "takes infinite or undefined values in the calibration data",
                where=label(value),
                fix="check the data and its preprocessing",
            )
