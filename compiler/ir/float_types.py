"""Write out the float types that nodes were asked for: tensors of that type, and a Cast wherever two types meet.

A node with float type T reads and computes T; one without keeps float32. Every value has the type in which it is
computed, so that a Cast is only between a node that makes one type and one that wants another:

    x ─ Conv ─ Relu ─ y      ⇄      x ─ Cast(T) ─ Conv ─ Relu ─ Cast(float32) ─ y          (x, y: public, float32)

Constants are converted once, weights and scales alike. Which inputs and outputs change type is read from the schemas
of ONNX; what a schema does not let change keeps float32. A QuantizeLinear or DequantizeLinear whose scale T does not
hold exactly stays float32, for the grid would move; so does every one before opset 19, where scales are float32.

Where a runtime has no arithmetic in T, ``simulate`` rounds instead: each value of T goes through T and back, and the
arithmetic between is float32. That is what a unit does which multiplies in T and accumulates in float32.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from graphpress.errors import ModelError
from graphpress.ir.edit import Editor
from graphpress.ir.encoding import FLOAT_TYPES, float_type, set_float_type
from graphpress.ir.signatures import Slots, Unable, float_slots, known_types, reads_any_type
from graphpress.ir.types import (
    DataType,
    Graph,
    LazyTensor,
    Model,
    Node,
    Shape,
    Tensor,
    TensorProtocol,
    TensorType,
    Value,
)
from graphpress.ir.values import constant, graphs, input_of, is_constant, is_standard, label

LARGEST: Final = {"float16": 65504.0, "bfloat16": (2 - 2**-7) * 2.0**127}
"""The largest finite number of each type that a node of a float32 model can be asked to compute in."""

_FLOAT: Final = DataType.FLOAT

_NO_ROUNDING: Final = frozenset(
    {
        "Abs", "Concat", "DepthToSpace", "DequantizeLinear", "Expand", "Flatten", "Gather", "GatherElements",
        "GatherND", "GlobalMaxPool", "Identity", "Max", "MaxPool", "Min", "Neg", "Pad", "Relu", "Reshape", "Slice",
        "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze", "Where",
    }
)  # fmt: skip
"""Operators whose results are numbers that they read. A DequantizeLinear is among them: integer kernels multiply the
integers themselves, and its result is not rounded."""


def materialize_float_types(model: Model, *, simulate: bool = False) -> int:
    """Write out the float type of every node, in place, and clear those annotations; run it after ``materialize_qdq``.

    Graph inputs and outputs keep their public names and types, those of subgraphs too. The bodies of functions, which
    serve several types at once, keep theirs.

    Args:
        model: any.
        simulate: round to each type and back, and compute in float32.

    Returns:
        How many nodes changed their type.

    Raises:
        ModelError: a node was asked for a type that there is not, or reads a constant that its type cannot hold.
    """
    asked = {
        node: dtype
        for graph in (model.graph, *model.graph.subgraphs())
        for node in graph
        if (dtype := _asked_type(node)) is not None
    }
    types = known_types(model) if asked else {}
    slots = {node: converted for node, dtype in asked.items() if (converted := _slots(node, dtype, types)) is not None}
    if slots:
        _Materializer(
            model, types, {node: (asked[node], converted) for node, converted in slots.items()}, simulate
        ).write()
    for graph in graphs(model):
        for node in graph:
            set_float_type(node, None)
    return len(slots)


def why_not(node: Node, dtype: str, types: dict[Value, DataType]) -> Unable | None:
    """Why a node cannot compute in ``float16`` or ``bfloat16``, or None where it can.

    Args:
        node: of a float32 model.
        dtype: one of ``FLOAT_TYPES``.
        types: of all values, as ``known_types`` finds them.
    """
    converted = float_slots(node, DataType[dtype.upper()], types.get)
    return converted if isinstance(converted, Unable) else None


def round_to(array: np.ndarray, dtype: str) -> np.ndarray:
    """The elements rounded to a float type, in that type; what is too large becomes infinite."""
    with np.errstate(over="ignore"):
        rounded: np.ndarray = array.astype(DataType[dtype.upper()].numpy())
    return rounded


def _asked_type(node: Node) -> DataType | None:
    name = float_type(node)
    if name is None:
        return None
    if name not in FLOAT_TYPES:
        raise ModelError(
            f"cannot compute in {name!r}", where=label(node), fix=f"ask for one of: {', '.join(FLOAT_TYPES)}"
        )
    return DataType[name.upper()]


def _slots(node: Node, dtype: DataType, types: dict[Value, DataType]) -> Slots | None:
    converted = float_slots(node, dtype, types.get)
    return None if isinstance(converted, Unable) or not _holds_scale(node, dtype) else converted


def _holds_scale(node: Node, dtype: DataType) -> bool:
    """Whether the type holds the scale of a Q or DQ node exactly."""
    scale = constant(input_of(node, 1)) if is_standard(node, "QuantizeLinear", "DequantizeLinear") else None
    return scale is None or bool(np.all(round_to(scale, dtype.name).astype(np.float32) == scale))


class _Materializer:
    """One model being written out: in which type each value is made, and its copies in other types.

    A copy in a type is a constant or a Cast of that type; where the type is only simulated, a float32 value that
    holds what the type would, or the value itself where that holds nothing else.
    """

    def __init__(
        self,
        model: Model,
        types: dict[Value, DataType],
        slots: dict[Node, tuple[DataType, Slots]],
        simulate: bool,
    ) -> None:
        self._edit, self._types, self._slots, self._simulate = Editor(model), types, slots, simulate
        self._reads = {(node, index): dtype for node, (dtype, converted) in slots.items() for index in converted.inputs}
        self._made = {
            node.outputs[index]: dtype for node, (dtype, converted) in slots.items() for index in converted.outputs
        }
        self._copies: dict[tuple[Value, DataType], Value] = {}

    def write(self) -> None:
        """Change the graph, value by value."""
        for value in [value for value, dtype in self._types.items() if dtype == _FLOAT]:
            uses = [(use.node, use.idx) for use in value.uses()]
            made = self._made.get(value, _FLOAT)
            if made != _FLOAT:
                self._make(value, made)
            for node, index in uses:
                self._connect(node, index, value, made)
            if is_constant(value) and uses:
                self._edit.drop_if_unused(value)

    def _make(self, value: Value, dtype: DataType) -> None:
        """Let a value be computed in its type; the world outside gets float32 as before."""
        if value.is_graph_output():
            public = self._copy(value, dtype if self._simulate else _FLOAT)
            if public is not value:
                self._edit.replace_output(value, public)
        node = value.producer()
        if self._simulate or node is None:
            return
        value.type = TensorType(dtype)
        if is_standard(node, "Cast"):
            self._edit.set_attributes(node, to=int(dtype))

    def _connect(self, node: Node, index: int, value: Value, made: DataType) -> None:
        """Let one use read a value in the type it wants."""
        wanted = self._reads.get((node, index), _FLOAT)
        if self._simulate:
            source = value if made == _FLOAT else self._copy(value, made)
            source = source if wanted in (made, _FLOAT) else self._copy(source, wanted)
        else:
            keeps = wanted == made or (node not in self._slots and reads_any_type(node, index, made, self._types.get))
            source = value if keeps else self._copy(value, wanted)
        if source is not value:
            node.replace_input_with(index, source)

    def _copy(self, value: Value, dtype: DataType) -> Value:
        """The value in another type, made once."""
        key, node = (value, dtype), value.producer()
        if self._simulate and dtype == self._made.get(value) and node is not None and is_standard(node, *_NO_ROUNDING):
            return value
        if key not in self._copies:
            self._copies[key] = self._constant(value, dtype) if is_constant(value) else self._cast(value, dtype)
        return self._copies[key]

    def _cast(self, value: Value, dtype: DataType) -> Value:
        steps = (dtype, _FLOAT) if self._simulate else (dtype,)
        result, after = value, value.producer()
        before = value.graph[0] if after is None and value.graph is not None else None
        for step in steps:
            name = f"{label(value)}_{_name(step)}"
            after = self._edit.add_node("Cast", [result], {"to": int(step)}, before=before, after=after, name=name)
            result, before = after.outputs[0], None
            result.type = TensorType(step)
            result.shape = None if value.shape is None else value.shape.copy()
        return result

    def _constant(self, value: Value, dtype: DataType) -> Value:
        array, node = constant(value), value.producer()
        graph = value.graph if node is None else node.graph
        assert array is not None
        assert isinstance(graph, Graph)
        _check_range(array, dtype, value)
        kind = _FLOAT if self._simulate else dtype
        source = value.const_value or Tensor(array)  # which is read each time: it may still lie in its file

        def convert() -> TensorProtocol:
            return Tensor(round_to(source.numpy(), dtype.name).astype(kind.numpy()))

        tensor = LazyTensor(convert, dtype=kind, shape=Shape(array.shape))
        return self._edit.add_constant(tensor, f"{label(value)}_{_name(dtype)}", graph)


def _check_range(array: np.ndarray, dtype: DataType, value: Value) -> None:
    largest = float(np.max(np.abs(array), initial=0.0, where=np.isfinite(array)))
    if np.isinf(round_to(np.array(largest), dtype.name)):
        raise ModelError(
            f"{largest:.3g} does not fit {_name(dtype)}",
            where=label(value),
            fix="leave its reader in float32: the pass reduce_precision sees to that",
        )


def _name(dtype: DataType) -> str:
    return "float32" if dtype == _FLOAT else dtype.name.lower()
