"""Layers that became chains of low rank, in words."""

from __future__ import annotations

from collections.abc import Sequence

from graphpress.manager.records import DecomposedLayer
from graphpress.report.records import Report
from graphpress.report.sentences import percent, plural


def decomposed(report: Report) -> list[DecomposedLayer]:
    """The layers of the result that became chains."""
    return [layer for record in report.passes if record.status == "applied" for layer in record.decomposed]


def decomposed_summary(report: Report) -> str:
    """How many layers became chains, and what becomes of the worst; empty where none did."""
    layers = decomposed(report)
    if not layers:
        return ""
    worst = max(layers, key=lambda layer: layer.error)
    macs, parameters = (_share_of(layers, cost) for cost in ("macs", "parameters"))
    return (
        f"{plural(len(layers), 'layer')} of low rank, {macs} of the multiply-accumulates and {parameters} of the "
        f"parameters of these; {worst.name} has the largest error, {percent(worst.error)}; report.html has all"
    )


def _share_of(layers: Sequence[DecomposedLayer], cost: str) -> str:
    before = sum(getattr(layer, f"{cost}_before") for layer in layers)
    return f"{sum(getattr(layer, cost) for layer in layers) / max(before, 1):.0%}"


def ranks(layer: DecomposedLayer) -> str:
    """The ranks that a layer keeps, of those at which it would be exact."""
    kept, full = ("×".join(map(str, sizes)) for sizes in (layer.ranks, layer.full_ranks))
    return f"{kept} of {full}"
