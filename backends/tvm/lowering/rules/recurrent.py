"""RNN, GRU and LSTM: the inputs of all steps by their weights as one product, then a kernel that takes the steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from graphpress.analysis.linear import as_read
from graphpress.backends.tvm.kernels.packing import packed_weights
from graphpress.backends.tvm.kernels.pieces import pieces
from graphpress.backends.tvm.kernels.plane import Plane, whole_vectors
from graphpress.backends.tvm.kernels.product import Product, Tile
from graphpress.backends.tvm.kernels.recurrent import CANDIDATE, RecurrentLayer, packed_recurrence
from graphpress.backends.tvm.kernels.stages import Destination
from graphpress.backends.tvm.kernels.window import TapWindow
from graphpress.backends.tvm.lowering.context import Lowering, StoredValue, shape_of
from graphpress.backends.tvm.lowering.layout import natural
from graphpress.backends.tvm.lowering.refusal import refused
from graphpress.backends.tvm.lowering.rules.rule import Rule
from graphpress.backends.tvm.program import Buffer, Constant, Source
from graphpress.backends.tvm.tiles import rule_tile
from graphpress.ir import DataType, Node, NodeView, Value, constant, input_of, is_constant
from graphpress.ops.semantics import InvalidAttributeError
from graphpress.ops.semantics.recurrent import GATES, activations_of, reads_backwards

DATA, WEIGHTS, RECURRENCE, BIAS, LENGTHS, HIDDEN, CELL, PEEPHOLES = range(8)
"""Inputs of the operators."""
BATCH = 1
"""The axis of the data that counts sequences."""
ACTIVATIONS = {"RNN": ("tanh",), "GRU": ("sigmoid", "tanh"), "LSTM": ("sigmoid", "tanh", "tanh")}
MOST_ROWS = 32
"""Sequences of a task, whose states stay in the second-level cache beside the weights."""
STATES, RESULTS = {HIDDEN: "hidden", CELL: "cell"}, ("every", "hidden_end", "cell_end")
"""Operands of the kernel: of the inputs, and of the outputs in their order."""


@dataclass(frozen=True)
class RecurrentWeights:
    """The constants of a layer; ``n`` gates of ``units``.

    Args:
        inputs: ``[directions, n · units, channels]``.
        recurrence: ``[directions, n · units, units]``.
        bias: ``[directions, n, units]``: of the projections.
        behind: ``[directions, units]``: of a GRU's recurrence, which its reset gate may multiply.
    """

    inputs: np.ndarray
    recurrence: np.ndarray
    bias: np.ndarray
    behind: np.ndarray


def _recurrent(node: Node, lowering: Lowering) -> None:
    view = NodeView.of(node)
    if (why := _obstacle(node, view, lowering)) is not None:
        raise refused(node, why)
    weights = _weights_of(node, view)
    data = lowering.form(_data(node), None, natural(3))
    units = weights.recurrence.shape[-1]
    projections = _project(lowering, node, data, weights)
    initial = {name: lowering.form(value, None, natural(3)) for name, value in _given(node).items()}
    results = {
        name: lowering.room(value, None, natural(len(shape_of(value))))
        for name, value in zip(RESULTS, node.outputs, strict=False)
        if value.name and (value.uses() or value.is_graph_output())
    }
    layer = RecurrentLayer(
        node.op_type,
        reads_backwards(view),
        units,
        projections.plane,
        tuple((name, _plane_of(stored)) for name, stored in initial.items()),
        tuple((name, stored.plane) for name, stored in results.items()),
        resets_behind=view.flag("linear_before_reset"),
        rows=_rows(projections.plane.width, weights.recurrence.shape[0], lowering.threads),
    )
    state = layer.state_size(lowering.isa) * projections.plane.width * len(layer.backwards)
    operands: dict[str, Source] = {
        "source": projections,
        "weights": Constant(packed_recurrence(layer, weights.recurrence, lowering.isa)),
        "bias": Constant(_padded(weights.behind, layer.width(lowering.isa)).reshape(-1)),
        "state": Buffer(Plane(state, 1, 1, state)),
        **{name: stored.memory for name, stored in (initial | results).items()},
    }
    lowering.emit(layer, operands, [node.name or ""])


def _rows(sequences: int, directions: int, threads: int) -> int:
    """Sequences of a task: as many as leave each thread one."""
    groups = max(pieces(threads, directions), pieces(sequences, MOST_ROWS))
    return pieces(sequences, min(groups, sequences))


def _obstacle(node: Node, view: NodeView, lowering: Lowering) -> str | None:
    """Why there is no kernel for a layer."""
    needed = (*(input_of(node, index) for index in (WEIGHTS, RECURRENCE)), input_of(node, BIAS))
    if any(value is not None and not is_constant(value) for value in needed):
        return "its weights are computed at run time"
    if view.integer("layout", 0) or _data(node).dtype is not DataType.FLOAT:
        return "its data is no float tensor of [steps, sequences, channels]"
    if not _are_usual(node, view):
        return "its activations are others than the usual ones, are clipped, or read the cell's state"
    if (lengths := input_of(node, LENGTHS)) is not None:
        known = constant(lengths)
        if known is None or np.any(known != shape_of(_data(node))[0]):
            return "its sequences are of different lengths"
    axes = lowering.batch_axes
    if axes is not None and axes.get(_data(node), BATCH) != BATCH:
        return "the number of its steps is open"
    return None


def _are_usual(node: Node, view: NodeView) -> bool:
    try:
        every = activations_of(view)
    except InvalidAttributeError:
        return False
    usual = all(tuple(each.name for each in of) == ACTIVATIONS[node.op_type] for of in every)
    clipped = any(np.isfinite(each.clip) for of in every for each in of)
    return usual and not clipped and input_of(node, PEEPHOLES) is None and not view.flag("input_forget")


def _data(node: Node) -> Value:
    value = node.inputs[DATA]
    assert value is not None
    return value


def _given(node: Node) -> dict[str, Value]:
    """Initial states, by the operand of the kernel."""
    states = {name: input_of(node, index) for index, name in STATES.items()}
    return {name: value for name, value in states.items() if value is not None}


def _weights_of(node: Node, view: NodeView) -> RecurrentWeights:
    inputs, recurrence = (_read(node, index) for index in (WEIGHTS, RECURRENCE))
    directions, rows, units = recurrence.shape
    bias = np.zeros((directions, 2, rows // units, units), np.float32)
    if input_of(node, BIAS) is not None:
        bias = _read(node, BIAS).reshape(bias.shape).copy()
    behind = np.zeros((directions, units), np.float32)
    if node.op_type == "GRU":
        behind = bias[:, 1, CANDIDATE].copy()
        bias[:, 1, CANDIDATE] = 0
    return RecurrentWeights(inputs, recurrence, bias.sum(axis=1), behind)


def _read(node: Node, index: int) -> np.ndarray:
    array = constant(node.inputs[index])
    assert array is not None
    return as_read(node, index, array)


def _project(lowering: Lowering, node: Node, data: StoredValue, weights: RecurrentWeights) -> Buffer:
    """The product of the inputs of all steps, its outputs ``[directions, gates, whole vectors of units]``."""
    isa, (directions, rows, channels) = lowering.isa, weights.inputs.shape
    units = weights.recurrence.shape[-1]
    gates = rows // units
    width = whole_vectors(units, isa.lanes)
    outputs = directions * gates * width
    filled = np.zeros((directions, gates, width, channels), np.float32)
    filled[:, :, :units] = weights.inputs.reshape(directions, gates, units, channels)
    result = Plane(outputs, data.plane.height, data.plane.width, outputs)
    product = Product(data.plane.flat(), Destination(result.flat()), TapWindow(), Tile(1, 1, 1))
    product = lowering.chosen(rule_tile(product, isa, lowering.threads))
    target = Buffer(result, name=node.name or "")
    operands = {
        "source": data.memory,
        "weights": Constant(packed_weights(product, filled.reshape(outputs, channels, 1, 1), isa)),
        "bias": Constant(_padded(weights.bias, width).reshape(-1)),
        "result": target,
    }
    lowering.emit(product, operands, [node.name or ""])
    return target


def _padded(array: np.ndarray, width: int) -> np.ndarray:
    """The last axis with zeros behind it."""
    padded: np.ndarray = np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, width - array.shape[-1])]).astype(np.float32)
    return padded


def _plane_of(stored: StoredValue) -> Plane:
    return stored.plane.shared() if isinstance(stored.memory, Constant) else stored.plane


RULES: Mapping[str, Rule] = MappingProxyType(dict.fromkeys(GATES, _recurrent))
"""Rules by operator."""
