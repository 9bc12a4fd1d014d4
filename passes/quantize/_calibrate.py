"""Ranges of activations from the calibration data: observed once, remembered by content, recorded for replay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from graphpress.ir import Model, digest, label, weight_bytes
from graphpress.ir.files import PROTOBUF_LIMIT
from graphpress.manager.contract import Context
from graphpress.observation import HistogramObserver, MinMaxObserver, Observer, observe
from graphpress.passes.quantize._placement import Placement
from graphpress.passes.quantize._ranges import Range, mse_range
from graphpress.targets import QuantizationPolicy
from graphpress.validation import ascending

Method = Literal["minmax", "percentile", "mse"]
Ranges = dict[str, Annotated[Range, ascending()] | None]
"""Range by the name of the value; None where it takes infinite or undefined values."""


@dataclass(frozen=True)
class Calibration:
    """How ranges follow from what was observed.

    Args:
        method: extrema, a percentile, or the range of least squared error.
        percentile: for ``percentile``: this much of the values lies inside the range at either end.
    """

    method: Method
    percentile: float

    def ranges(
        self, model: Model, placement: Placement, policy: QuantizationPolicy, context: Context, key: str
    ) -> Ranges:
        """The range of every activation of the placement; values that share a range have the same.

        Follows the decision recorded under ``key`` where there is one, else records it.
        """
        wanted = {label(value) for value in placement.activations}
        recorded: Ranges | None = context.recorded(key, Ranges)
        if recorded is None or not wanted <= set(recorded):
            recorded = context.decisions[key] = self._remembered(model, placement, policy, context)
        return {name: recorded[name] for name in wanted}

    def _remembered(self, model: Model, placement: Placement, policy: QuantizationPolicy, context: Context) -> Ranges:
        """The observed ranges, from the cache where the same model has seen the same data before."""
        fingerprint = getattr(context.calibration, "fingerprint", None)
        if context.cache is None or fingerprint is None or weight_bytes(model) > PROTOBUF_LIMIT:
            return self._observed(model, placement, policy, context)
        wanted = sorted(label(value) for value in placement.activations)
        key = ("ranges", repr(self), repr(policy), digest(model), fingerprint(), *wanted)
        ranges: Ranges | None = context.cache.get(*key)
        if ranges is None:
            ranges = self._observed(model, placement, policy, context)
            context.cache.put(ranges, *key)
        return ranges

    def _observed(self, model: Model, placement: Placement, policy: QuantizationPolicy, context: Context) -> Ranges:
        kind = MinMaxObserver if self.method == "minmax" else HistogramObserver
        by_root = {root: kind() for root in placement.range_of.values()}
        observers: dict[str, Observer] = {
            label(value): by_root[placement.range_of[value]] for value in placement.activations
        }
        assert context.calibration is not None
        observe(model, observers, context.calibration, threads=context.threads, progress=context.progress)
        ranges = {root: self._range(seen, policy) for root, seen in by_root.items()}
        return {label(value): ranges[placement.range_of[value]] for value in placement.activations}

    def _range(self, seen: MinMaxObserver, policy: QuantizationPolicy) -> Range | None:
        if not np.isfinite([seen.low, seen.high]).all():
            return None
        if isinstance(seen, HistogramObserver) and self.method == "percentile":
            return seen.percentile_range(self.percentile)
        if isinstance(seen, HistogramObserver):
            return mse_range(seen, policy)
        return seen.low, seen.high
