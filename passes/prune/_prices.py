"""Seconds of every node as a function of its shapes: measured on this machine, or modelled for another target.

Measured: each node that multiplies is run alone, in a model of one node, on a small grid of kept fractions of what it
reads and of what it writes; in between, time is interpolated linearly along both (time is close to
a + b·in + c·out + d·in·out, which bilinear interpolation follows). Equal layers are measured once. The rest of the
whole model's time is shared among the other nodes by the bytes that they move. Where layers alone take longer than the
whole model, which needs no change of layout between them, their times are scaled down alike.

Modelled: the roofline, max(MACs / peak, bytes / bandwidth), with the rates that the target states.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from graphpress.allocation import LatencyBench, sizes_at
from graphpress.allocation.node_model import can_run_alone, node_model, signature
from graphpress.analysis.cost import LayerCost, layer_roofline
from graphpress.coupling.cost import GroupCosts, Price
from graphpress.ir import NodeView
from graphpress.passes.prune._limits import Limits
from graphpress.progress import Progress, Silent
from graphpress.targets import Target

FRACTIONS = (1.0, 0.5, 0.25)
"""Of the positions that can go, on either side of a layer: the grid of measurements."""

MIN_SHARE = 0.002
"""Nodes with a smaller share of the multiply-accumulates are not measured alone."""


def measured_price(
    costs: GroupCosts, limits: Limits, whole_seconds: float, bench: LatencyBench, progress: Progress | None = None
) -> Price:
    """Seconds of nodes on this machine.

    Args:
        costs: of the model, all whole, and whole again afterwards.
        limits: the counts that groups may have: only such shapes are measured.
        whole_seconds: time of the whole model.
        bench: runs the layers.
        progress: shows how far it is.
    """
    layers = costs.layers()
    threshold = MIN_SHARE * costs.full.macs
    heavy = [view for view, layer in layers if layer.macs > max(threshold, 0) and can_run_alone(view)]
    counts = limits.counts(costs)
    surfaces = {
        view.node: _surface(view, costs, counts, bench)
        for view in (progress or Silent()).track(heavy, "measuring layers")
    }
    alone = sum(surface.at(view) for view, surface in zip(heavy, surfaces.values(), strict=True))
    scale = min(1.0, whole_seconds / alone) if alone else 1.0
    moved = sum(layer.traffic for view, layer in layers if view.node not in surfaces)
    rest = max(0.0, whole_seconds - alone) / moved if moved else 0.0

    def price(view: NodeView, layer: LayerCost) -> float:
        surface = surfaces.get(view.node)
        return rest * layer.traffic if surface is None else scale * surface.at(view)

    return price


def modelled_price(target: Target) -> Price | None:
    """Seconds of nodes on a target, or None where it states no peak rate or no bandwidth."""
    seconds = layer_roofline(target)
    return None if seconds is None else lambda view, layer: seconds(layer)


# -- one layer over its grid ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Surface:
    """Seconds over the fractions that are left of what a node reads and of what it writes.

    Args:
        whole: elements of the first input and of the first output when nothing is removed.
        ins: kept fractions of the input, increasing.
        outs: kept fractions of the output, increasing; a single one where input and output shrink together.
        seconds: [ins, outs].
    """

    whole: tuple[int, int]
    ins: np.ndarray
    outs: np.ndarray
    seconds: np.ndarray

    def at(self, view: NodeView) -> float:
        """Seconds at the shapes of a node."""
        kept_in, kept_out = _fractions(view, self.whole)
        rows = np.array([_interpolate(kept_out, self.outs, row) for row in self.seconds])
        return max(0.0, _interpolate(kept_in, self.ins, rows))


def _surface(view: NodeView, costs: GroupCosts, counts: dict[str, np.ndarray], bench: LatencyBench) -> _Surface:
    read, written = (costs.groups_in(value) for value in (view.node.inputs[0], view.node.outputs[0]))
    together = bool(set(read) & set(written))
    whole = (math.prod(view.input_shape(0)), math.prod(view.output_shape()))
    ins = _points([*read, *written] if together else read, counts)
    outs = [{}] if together else _points(written, counts)
    times = np.zeros((len(ins), len(outs)))
    kept = np.zeros((2, len(ins), len(outs)))
    for row, of_in in enumerate(ins):
        for column, of_out in enumerate(outs):
            costs.keep_all({**of_in, **of_out})
            at = costs.view(view.node)
            times[row, column] = bench.seconds(signature(at), partial(node_model, at))
            kept[:, row, column] = _fractions(at, whole)
    costs.keep_all({name: int(counts[name][0]) for name in {*read, *written}})
    times = np.maximum.accumulate(np.maximum.accumulate(times, axis=0), axis=1)  # less never takes longer
    return _Surface(whole, kept[0, :, 0], kept[1, 0, :], times)


def _points(names: Sequence[str], counts: dict[str, np.ndarray]) -> list[dict[str, int]]:
    """Counts of these groups at the grid's fractions, increasing, without repetition."""
    of_names = {name: counts[name] for name in names}
    points = [sizes_at(of_names, fraction) for fraction in sorted(FRACTIONS)]
    return list({tuple(point.values()): point for point in points}.values())


def _fractions(view: NodeView, whole: tuple[int, int]) -> tuple[float, float]:
    return math.prod(view.input_shape(0)) / whole[0], math.prod(view.output_shape()) / whole[1]


def _interpolate(x: float, xs: np.ndarray, ys: np.ndarray) -> float:
    """Linear between the points, and on along the first two below them."""
    if len(xs) == 1 or x >= xs[0]:
        return float(np.interp(x, xs, ys))
    return float(ys[0] + (x - xs[0]) * (ys[1] - ys[0]) / (xs[1] - xs[0]))
