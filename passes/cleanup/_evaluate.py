"""Evaluation of constant nodes by ONNX Runtime: all of them in one session, the culprits found by bisection."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from graphpress.analysis.shapes import infer_shapes
from graphpress.errors import DataError, ModelError
from graphpress.ir import DataType, Graph, Model, Node, Shape, Tensor, TensorType, Value, static_shape

NUMERIC = frozenset((
    DataType.FLOAT, DataType.DOUBLE, DataType.FLOAT16, DataType.BOOL,
    DataType.INT8, DataType.INT16, DataType.INT32, DataType.INT64,
    DataType.UINT8, DataType.UINT16, DataType.UINT32, DataType.UINT64,
))  # fmt: skip


@dataclass
class Evaluation:
    """What came out: arrays by value, and why the other nodes could not be evaluated."""

    arrays: dict[Value, np.ndarray] = field(default_factory=dict)
    failures: dict[Node, str] = field(default_factory=dict)


def result_bytes(nodes: Sequence[Node], known: Mapping[Value, np.ndarray], like: Model) -> dict[Value, int | None]:
    """Bytes of every result, found by shape inference; None when unknown or no numeric tensor."""
    model, copies = _extract(nodes, known, like, outputs=_results(nodes[-1:]))
    infer_shapes(model)
    return {output: _bytes_of(copies[output]) for output in _results(nodes)}


def evaluate(nodes: Sequence[Node], known: Mapping[Value, np.ndarray], like: Model) -> Evaluation:
    """Run nodes (in order) that read nothing but ``known`` values and each other's results."""
    evaluation = Evaluation()
    _evaluate_into(evaluation, list(nodes), known, like)
    return evaluation


def _evaluate_into(evaluation: Evaluation, nodes: list[Node], known: Mapping[Value, np.ndarray], like: Model) -> None:
    available = {**known, **evaluation.arrays}
    ready: list[Node] = []
    produced: set[Value] = set()
    for node in nodes:
        if all(value is None or value in available or value in produced for value in node.inputs):
            ready.append(node)
            produced.update(node.outputs)
        else:
            evaluation.failures[node] = "an operand could not be evaluated"
    if not ready:
        return
    try:
        evaluation.arrays.update(_run(ready, available, like))
    except (DataError, ModelError) as error:
        if len(ready) == 1:
            evaluation.failures[ready[0]] = f"ONNX Runtime refuses it: {error.what}"
            return
        half = len(ready) // 2
        _evaluate_into(evaluation, ready[:half], known, like)
        _evaluate_into(evaluation, ready[half:], known, like)


def _run(nodes: Sequence[Node], known: Mapping[Value, np.ndarray], like: Model) -> dict[Value, np.ndarray]:
    from graphpress.runtime import Session

    wanted = _results(nodes)
    model, copies = _extract(nodes, known, like, wanted)
    results = Session(model, optimization="none").run({})
    return {value: results[copies[value].name or ""] for value in wanted}


def _results(nodes: Iterable[Node]) -> list[Value]:
    return [output for node in nodes for output in node.outputs if output.name]


def _extract(
    nodes: Sequence[Node], known: Mapping[Value, np.ndarray], like: Model, outputs: Sequence[Value]
) -> tuple[Model, dict[Value, Value]]:
    """A model of copies of these nodes, the known values they read being its initializers; values by original."""
    copies: dict[Value, Value] = {}
    initializers = []
    body = []
    for node in nodes:
        for value in node.inputs:
            if value is not None and value not in copies:
                copies[value] = _initializer(known[value], f"constant_{len(copies)}")
                initializers.append(copies[value])
        for output in node.outputs:
            copies[output] = Value(name=f"result_{len(copies)}" if output.name else "")
        body.append(
            Node(
                node.domain,
                node.op_type,
                [None if value is None else copies[value] for value in node.inputs],
                list(node.attributes.values()),
                outputs=[copies[output] for output in node.outputs],
            )
        )
    graph = Graph(
        (),
        [copies[value] for value in outputs],
        nodes=body,
        initializers=initializers,
        opset_imports=dict(like.opset_imports),
        name="constants",
    )
    return Model(graph, ir_version=like.ir_version), copies


def _initializer(array: np.ndarray, name: str) -> Value:
    tensor = Tensor(np.asarray(array, order="C"), name=name)
    return Value(name=name, shape=Shape(array.shape), type=TensorType(tensor.dtype), const_value=tensor)


def _bytes_of(value: Value) -> int | None:
    shape = static_shape(value)
    if shape is None or value.dtype not in NUMERIC or not isinstance(value.type, TensorType):
        return None
    return math.prod(shape) * math.ceil(value.dtype.itemsize)
