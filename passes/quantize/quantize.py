"""Static int8 quantisation after training, by annotation.

    q = clamp(round(x / s) + z),   x ≈ s · (q − z)          (Jacob et al., arXiv 1712.05877, equation 1)

Weights are symmetric (z = 0), one scale per output channel, s = max|w| / q_max. Activations take one scale a
tensor from the observed range, widened to hold zero exactly (padding and Relu need it). The bias of an integer
convolution lives on the accumulator's grid: s_bias = s_input · s_weight, z = 0.

The pass only annotates: which nodes, which uses and which integer types follow from the target's policy, and the
backend spells the annotations in its own words.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from graphpress.errors import DataError
from graphpress.ir import Editor, Model, Node, Refusal, Value, constant, input_of, label, serialize, weight_bytes
from graphpress.ir.encoding import (
    FLOAT,
    Quantized,
    encoding_of,
    integer_bounds,
    override_output,
    override_use,
    read_encoding,
    request_compute,
    set_encoding,
)
from graphpress.ir.files import PROTOBUF_LIMIT
from graphpress.manager.contract import Context, Outcome, Pass
from graphpress.observation import HistogramObserver, MinMaxObserver, Observer, observe
from graphpress.ops import lookup
from graphpress.passes.quantize.placement import Placement, place
from graphpress.passes.quantize.ranges import Range, activation_encoding, mse_range
from graphpress.targets import QuantizationPolicy

SMALLEST_OPSET = 13
"""From here on QuantizeLinear knows an axis."""


@dataclass(frozen=True)
class Quantize(Pass):
    """Convolutions and matrix products in int8, with static ranges from calibration data.

    Args:
        calibration_method: how the range of an activation follows from what was observed.
        percentile: for ``percentile``: this much of the values lies inside the range at either end.
        per_channel: one weight scale per output channel; None leaves it to the target.
    """

    name: ClassVar[str] = "quantize"
    lossless: ClassVar[bool] = False
    needs_data: ClassVar[bool] = True

    calibration_method: Literal["minmax", "percentile", "mse"] = "mse"
    percentile: float = 99.99
    per_channel: bool | None = None

    def refuse(self, model: Model, context: Context) -> Refusal | None:
        """Needs data, and an operator set that can spell per-channel scales."""
        opset = model.graph.opset_imports.get("", 0)
        if opset < SMALLEST_OPSET:
            return Refusal(self.name, f"needs opset {SMALLEST_OPSET}, the model has {opset}",
                           f"run raise_opset{{to={SMALLEST_OPSET}}} first")
        return super().refuse(model, context)

    def run(self, model: Model, context: Context) -> Outcome:
        """Place, observe, encode."""
        policy = context.target.quantization
        placement = place(model.graph, policy, context)
        if not placement.nodes:
            return Outcome(0, placement.refusals, ["nothing in the graph has an integer kernel on this target"])
        ranges = self._ranges(model, placement, policy, context)
        _encode_activations(placement, ranges, policy)
        edit = Editor(model)
        for node in placement.nodes:
            request_compute(node, "int8")
            _encode_constants(node, policy, self.per_channel, placement)
        for node in placement.nodes:
            _encode_bias(node, policy, edit)
        return Outcome(len(placement.nodes), placement.refusals,
                       [f"{len(placement.nodes)} nodes in integers, {len(placement.activations)} activations encoded"])

    def _ranges(
        self, model: Model, placement: Placement, policy: QuantizationPolicy, context: Context
    ) -> Mapping[Value, Range]:
        """The range of every activation, from one pass over the calibration data (or the recorded decision)."""
        key = f"{self.name}.ranges.{self.calibration_method}.{self.percentile}"
        names = {value: label(placement.range_of[value]) for value in placement.activations}
        recorded = context.decisions.get(key)
        if recorded is None or not set(names.values()) <= set(recorded):
            recorded = context.decisions[key] = self._remembered(model, placement, policy, context)
        return {value: (recorded[name][0], recorded[name][1]) for value, name in names.items()}

    def _remembered(
        self, model: Model, placement: Placement, policy: QuantizationPolicy, context: Context
    ) -> dict[str, Range]:
        """The observed ranges, from the cache where the same model has seen the same data before."""
        fingerprint = getattr(context.calibration, "fingerprint", None)
        if context.cache is None or fingerprint is None or weight_bytes(model) > PROTOBUF_LIMIT:
            return self._observed(model, placement, policy, context)
        digest = hashlib.sha256(serialize(model)).hexdigest()
        wanted = sorted(label(value) for value in placement.activations)
        key = (self.name, repr(self), repr(policy), digest, fingerprint(), *wanted)
        found: dict[str, Range] | None = context.cache.get(*key)
        if found is None:
            found = self._observed(model, placement, policy, context)
            context.cache.put(found, *key)
        return found

    def _observed(
        self, model: Model, placement: Placement, policy: QuantizationPolicy, context: Context
    ) -> dict[str, Range]:
        kind = MinMaxObserver if self.calibration_method == "minmax" else HistogramObserver
        by_root = {root: kind() for root in placement.range_of.values()}
        observers: dict[str, Observer] = {
            label(value): by_root[placement.range_of[value]] for value in placement.activations
        }
        assert context.calibration is not None
        observe(model, observers, context.calibration, threads=context.threads, progress=context.progress)
        return {label(root): self._range_of(label(root), seen, policy) for root, seen in by_root.items()}

    def _range_of(self, name: str, seen: MinMaxObserver, policy: QuantizationPolicy) -> Range:
        if not np.isfinite([seen.low, seen.high]).all():
            raise DataError("takes infinite or undefined values on the calibration data", where=name,
                            fix="check the preprocessing, or exclude the node with --exclude")
        if isinstance(seen, HistogramObserver) and self.calibration_method == "percentile":
            return seen.percentile_range(self.percentile)
        if isinstance(seen, HistogramObserver):
            return mse_range(seen, policy)
        return seen.low, seen.high


def _encode_activations(placement: Placement, ranges: Mapping[Value, Range], policy: QuantizationPolicy) -> None:
    for value in placement.activations:
        encoding = activation_encoding(ranges[value], policy)
        root = placement.range_of[value]
        set_encoding(value, encoding if root is value else replace(encoding, shared=label(root)))
        if placement.computes(value):
            continue
        for use in value.uses():
            if use.node not in placement:
                override_use(use.node, use.idx, FLOAT)
        if value.is_graph_output():
            override_output(value, FLOAT)


def _encode_constants(node: Node, policy: QuantizationPolicy, per_channel: bool | None, placement: Placement) -> None:
    """Anchors have one weight; companions may read small constants, which take one scale a tensor."""
    spec = lookup(node.op_type)
    weight_index = spec.quantization.weight if spec is not None and node.op_type in policy.anchors else None
    for index, value in enumerate(node.inputs):
        array = constant(value)
        if value is None or array is None or array.dtype != np.float32:
            continue
        if index == weight_index:
            assert spec is not None
            axis = None
            if policy.per_channel if per_channel is None else per_channel:
                assert spec.quantization.channel_axis is not None
                axis = spec.quantization.channel_axis(node, array.ndim)
            _encode_use(node, index, weight_encoding(array, axis, policy), placement)
        elif node.op_type in policy.companions:
            observed = (float(array.min()), float(array.max()))
            _encode_use(node, index, activation_encoding(observed, policy), placement)


def _encode_use(node: Node, index: int, encoding: Quantized, placement: Placement) -> None:
    """The first reader of a constant gives it its encoding; others override it where they need another, or float."""
    value = node.inputs[index]
    assert value is not None
    default = encoding_of(value)
    if default is not None:
        override_use(node, index, None if default == encoding else encoding)
        return
    set_encoding(value, encoding)
    for use in value.uses():
        if use.node not in placement:
            override_use(use.node, use.idx, FLOAT)


def weight_encoding(array: np.ndarray, axis: int | None, policy: QuantizationPolicy) -> Quantized:
    """Symmetric encoding of a weight, one scale per index of ``axis`` (None: one in all)."""
    top = integer_bounds(policy.weights)[1]
    if policy.reduced_range:
        top //= 2
    others = None if axis is None else tuple(one for one in range(array.ndim) if one != axis)
    largest = np.abs(array).max(axis=others).reshape(-1)
    scale = np.where(largest > 0, largest / top, 1.0).astype(np.float32)
    scale = np.maximum(scale, np.finfo(np.float32).tiny)
    return Quantized(policy.weights, tuple(float(one) for one in scale), (0,) * len(scale), axis)


def _encode_bias(node: Node, policy: QuantizationPolicy, edit: Editor) -> None:
    """Derive the bias's scale from those of input and weight; widen weight scales that would make it overflow."""
    spec = lookup(node.op_type)
    if policy.bias != "int32" or node.op_type not in policy.anchors or spec is None or spec.quantization.bias is None:
        return
    bias = constant(input_of(node, spec.quantization.bias))
    weight_index = spec.quantization.weight
    assert weight_index is not None
    source, weight = read_encoding(node, 0), read_encoding(node, weight_index)
    if bias is None or source is None or weight is None:
        return
    weight_scale = np.array(weight.scale, np.float64)
    smallest = np.abs(bias.astype(np.float64)).reshape(-1) / (source.scale[0] * 2.0**30)
    if np.any(weight_scale < (smallest if weight.axis is not None else smallest.max())):
        floor = smallest if weight.axis is not None else smallest.max(keepdims=True)
        weight_scale = np.maximum(weight_scale, floor).astype(np.float32).astype(np.float64)
        weight = replace(weight, scale=tuple(float(one) for one in weight_scale))
        override_use(node, weight_index, weight)
    scale = (np.float32(source.scale[0]) * weight_scale.astype(np.float32)).astype(np.float32)
    own = edit.own_constant(node, spec.quantization.bias, bias.reshape(-1))
    set_encoding(own, Quantized("int32", tuple(float(one) for one in scale), (0,) * len(scale),
                                0 if len(scale) > 1 else None, derived=True))
