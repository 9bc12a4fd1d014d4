"""Dynamic quantization to 8 bits: weights ahead of time, activations with the range that each call finds.

    y = s_x · s_w · Σ (q_x − z_x) q_w      s_x, z_x from the extrema of x in this call

No data is needed, and no range is ever wrong: what it costs is one look at each activation. That is little beside a
matrix product, so that transformers and recurrent networks gain nearly what static ranges give; a convolution looks at
more numbers for what it computes, and stays float. Weights are symmetric, one scale an output channel; between the
products everything is float.

The pass only annotates, as ``quantize`` does. Tables that are looked up, and products inside If, Loop and Scan, take
integer weights as they do there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from graphpress.ir import Model, Node, Refusal
from graphpress.ir.encoding import dynamic_encoding, override_use, request_compute
from graphpress.manager.contract import Context, Outcome, Pass
from graphpress.passes._kernels import lacking_opset
from graphpress.passes.quantize._bodies import encode_bodies
from graphpress.passes.quantize._encode import encode_constants
from graphpress.passes.quantize._left_float import left_float
from graphpress.passes.quantize._placement import place
from graphpress.passes.quantize._recurrent import encode_recurrent
from graphpress.passes.quantize._tables import encode_tables
from graphpress.targets import QuantizationPolicy

SMALLEST_OPSET = 13
"""From here on DequantizeLinear knows an axis."""


@dataclass(frozen=True)
class QuantizeDynamic(Pass):
    """Matrix products in 8 bits, with ranges of activations that are found at run time: needs no data.

    Args:
        per_channel: one weight scale per output channel; None leaves it to the target.
    """

    name: ClassVar[str] = "quantize_dynamic"
    lossless: ClassVar[bool] = False

    per_channel: bool | None = None

    def refuse(self, model: Model, context: Context) -> Refusal | None:
        """Needs kernels that find ranges, and an operator set that can express the weights."""
        if not context.target.quantization.dynamic_ops:
            return Refusal(self.name, "this target has no kernels that find ranges at run time", "use quantize")
        return lacking_opset(self.name, model, SMALLEST_OPSET) or super().refuse(model, context)

    def run(self, model: Model, context: Context) -> Outcome:
        """Place, encode, and say what stays float."""
        policy = _products_alone(context.target.quantization)
        placement = place(model.graph, policy, context)
        for node in placement.nodes:
            override_use(node, 0, dynamic_encoding(policy.activations))
            request_compute(node, "int8")
            encode_constants(node, policy, self.per_channel, placement)
        per_channel = policy.per_channel if self.per_channel is None else self.per_channel
        recurrent, stay = encode_recurrent(model.graph, policy, context, per_channel=per_channel)
        tables, floats = encode_tables(model.graph, policy, context)
        bodies, inside = encode_bodies(model, context)
        notes = [f"{len(placement.nodes)} products in integers, ranges found at run time"]
        if recurrent:
            notes.append(f"{recurrent} recurrent layers likewise, the state at each step")
        if tables:
            notes.append(f"{tables} tables in integers, a scale a row")
        if bodies:
            notes.append(f"{bodies} products inside other nodes with integer weights")
        told = [*placement.refusals, *stay, *floats, *inside]
        told += left_float(model, context, told, _why)
        return Outcome(len(placement.nodes) + recurrent + tables + bodies, told, notes)


def _products_alone(policy: QuantizationPolicy) -> QuantizationPolicy:
    """The target's policy, with nothing in integers between two products: there is no range to share."""
    return replace(
        policy,
        compute_ops=policy.dynamic_ops,
        quantizable_neighbors=(),
        pass_through_ops=(),
        float_results=policy.dynamic_ops,
        residual_adds=False,
    )


def _why(node: Node) -> str:
    return f"no kernel of this target finds the range of what {node.op_type} reads at run time"
