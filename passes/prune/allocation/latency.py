"""Seconds of every node as a function of its shapes: measured on this machine, or modelled for another target.

Measured: each node that multiplies is run alone, in a model of one node, on a small grid of kept fractions of what it
reads and of what it writes; in between, time is interpolated linearly along both (time is close to
a + b·in + c·out + d·in·out, which bilinear interpolation follows). Equal layers are measured once. The rest of the
whole model's time is shared among the other nodes by the bytes that they move. Where layers alone take longer than the
whole model, which needs no change of layout between them, their times are scaled down alike.

Modelled: the roofline, max(MACs / peak, bytes / bandwidth), with the rates that the target states.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from graphpress.analysis.calls import dtype_of
from graphpress.analysis.cost import LayerCost, layer_roofline
from graphpress.coupling.cost import GroupCosts, Price
from graphpress.ir import DataType, Model, from_proto, is_constant, is_standard, subgraphs_of
from graphpress.manager.cache import ContentCache
from graphpress.ops import Call
from graphpress.passes.prune.allocation.goal import Limits
from graphpress.progress import Progress, Silent
from graphpress.report.environment import environment
from graphpress.runtime import Session, median_latency
from graphpress.targets import Target

FRACTIONS = (1.0, 0.5, 0.25)
"""Of the positions that can go, on either side of a layer: the grid of measurements."""

LEAST_SHARE = 0.002
"""Nodes with a smaller share of the multiply-accumulates are not measured alone."""

SECONDS = 0.03
WARM_UP = 0.01
_OPSET = 21


@dataclass
class Bench:
    """Times single nodes; each shape once.

    Args:
        threads: of the runtime.
        cache: keeps times from run to run on this machine; None keeps them nowhere.
    """

    threads: int = 1
    cache: ContentCache | None = None
    known: dict[str, float] = field(default_factory=dict)

    def seconds(self, call: Call) -> float:
        """The median time of a node with these shapes, alone."""
        word = _signature(call)
        if word not in self.known:
            key = ("layer_seconds", json.dumps(environment(), sort_keys=True), str(self.threads), word)
            found = None if self.cache is None else self.cache.get(*key)
            self.known[word] = self._measure(call) if found is None else float(found)
            if self.cache is not None and found is None:
                self.cache.put(self.known[word], *key)
        return self.known[word]

    def _measure(self, call: Call) -> float:
        model = node_model(call)
        session = Session(model, threads=self.threads)
        feed = {spec.name: np.full(_sizes(spec.dims), 0.01, spec.dtype) for spec in session.inputs}
        return median_latency(lambda: session.run(feed), seconds=SECONDS, warm_up=WARM_UP) / 1e3


def measured_price(
    costs: GroupCosts, limits: Limits, whole_seconds: float, bench: Bench, progress: Progress | None = None
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
    least = LEAST_SHARE * costs.full.macs
    heavy = [call for call, layer in layers if layer.macs > max(least, 0) and _can_run_alone(call)]
    choices = limits.choices(costs)
    surfaces = {
        call.node: _surface(call, costs, choices, bench)
        for call in (progress or Silent()).track(heavy, "measuring layers")
    }
    alone = sum(surface.at(call) for call, surface in zip(heavy, surfaces.values(), strict=True))
    scale = min(1.0, whole_seconds / alone) if alone else 1.0
    moved = sum(layer.traffic for call, layer in layers if call.node not in surfaces)
    rest = max(0.0, whole_seconds - alone) / moved if moved else 0.0

    def price(call: Call, layer: LayerCost) -> float:
        surface = surfaces.get(call.node)
        return rest * layer.traffic if surface is None else scale * surface.at(call)

    return price


def modelled_price(target: Target) -> Price | None:
    """Seconds of nodes on a target, or None where it states no peak rate or no bandwidth."""
    seconds = layer_roofline(target)
    return None if seconds is None else lambda call, layer: seconds(layer)


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

    def at(self, call: Call) -> float:
        """Seconds at the shapes of a call."""
        kept_in, kept_out = _fractions(call, self.whole)
        rows = np.array([_interpolate(kept_out, self.outs, row) for row in self.seconds])
        return max(0.0, _interpolate(kept_in, self.ins, rows))


def _surface(call: Call, costs: GroupCosts, choices: dict[str, np.ndarray], bench: Bench) -> _Surface:
    read, written = (costs.groups_in(value) for value in (call.node.inputs[0], call.node.outputs[0]))
    together = bool(set(read) & set(written))
    whole = (math.prod(call.input(0)), math.prod(call.output()))
    ins = _points([*read, *written] if together else read, choices)
    outs = [{}] if together else _points(written, choices)
    times = np.zeros((len(ins), len(outs)))
    kept = np.zeros((2, len(ins), len(outs)))
    for row, of_in in enumerate(ins):
        for column, of_out in enumerate(outs):
            costs.keep_all({**of_in, **of_out})
            at = costs.call(call.node)
            times[row, column] = bench.seconds(at)
            kept[:, row, column] = _fractions(at, whole)
    costs.keep_all({name: int(choices[name][0]) for name in {*read, *written}})
    times = np.maximum.accumulate(np.maximum.accumulate(times, axis=0), axis=1)  # less never takes longer
    return _Surface(whole, kept[0, :, 0], kept[1, 0, :], times)


def _points(names: Sequence[str], choices: dict[str, np.ndarray]) -> list[dict[str, int]]:
    """Counts of these groups at the grid's fractions, increasing, without repetition."""
    found = {}
    for fraction in sorted(FRACTIONS):
        counts = {name: _nearest(choices[name], fraction) for name in names}
        found[tuple(counts.values())] = counts
    return list(found.values())


def _nearest(choices: np.ndarray, fraction: float) -> int:
    return int(choices[np.argmin(np.abs(choices - fraction * choices[0]))])


def _fractions(call: Call, whole: tuple[int, int]) -> tuple[float, float]:
    return math.prod(call.input(0)) / whole[0], math.prod(call.output()) / whole[1]


def _interpolate(x: float, xs: np.ndarray, ys: np.ndarray) -> float:
    """Linear between the points, and on along the first two below them."""
    if len(xs) == 1 or x >= xs[0]:
        return float(np.interp(x, xs, ys))
    return float(ys[0] + (x - xs[0]) * (ys[1] - ys[0]) / (xs[1] - xs[0]))


# -- models of one node ---------------------------------------------------------------------------------------


def node_model(call: Call) -> Model:
    """A model of this node alone, with these shapes: constants stay constants, the rest are inputs."""
    from onnx import TensorProto, helper, numpy_helper

    inputs, constants, names = [], [], []
    for index, (value, shape) in enumerate(zip(call.node.inputs, call.inputs, strict=True)):
        names.append("" if value is None else f"x{index}")
        if value is None or shape is None:
            continue
        if is_constant(value):
            constants.append(numpy_helper.from_array(np.full(shape, 0.01, np.float32), names[-1]))
        else:
            inputs.append(helper.make_tensor_value_info(names[-1], TensorProto.FLOAT, shape))
    attributes = {name: attribute.value for name, attribute in call.node.attributes.items()}
    if attributes.get("group", 1) > 1:
        attributes["group"] = _groups(call)
    outputs = [f"y{index}" for index in range(len(call.outputs))]
    node = helper.make_node(call.node.op_type, names, outputs, **attributes)
    results = [helper.make_tensor_value_info(outputs[0], TensorProto.FLOAT, call.output())]
    graph = helper.make_graph([node], "node", inputs, results, constants)
    return from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", min(call.opset, _OPSET))]))


def _groups(call: Call) -> int:
    """Groups of a convolution with these shapes."""
    kernel = call.input(1)
    if call.node.op_type == "ConvTranspose":
        return call.output()[1] // kernel[1]
    return call.input(0)[1] // kernel[1]


def _can_run_alone(call: Call) -> bool:
    """Whether it is a standard node without subgraphs that reads and writes known shapes of 32-bit floats."""
    values = [value for value in (*call.node.inputs, *call.node.outputs) if value is not None]
    shapes = [shape for value, shape in zip(call.node.inputs, call.inputs, strict=True) if value is not None]
    return (
        is_standard(call.node)
        and not any(True for _ in subgraphs_of(call.node))
        and all(dtype_of(value) in (None, DataType.FLOAT) for value in values)
        and None not in (*shapes, *call.outputs)
    )


def _sizes(dims: tuple[int | str | None, ...] | None) -> tuple[int, ...]:
    return tuple(dim if isinstance(dim, int) else 1 for dim in dims or ())


def _signature(call: Call) -> str:
    """What decides a node's time: operator, attributes, shapes, and which inputs are constant."""
    attributes = sorted((name, repr(attribute.value)) for name, attribute in call.node.attributes.items())
    constants = [is_constant(value) for value in call.node.inputs]
    return repr((call.node.op_type, attributes, call.inputs, call.outputs, constants))
