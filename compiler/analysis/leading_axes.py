"""What the first axes of a model's inputs count: samples, or something else, such as steps in time.

An open first axis is taken for the batch, unless

    a recurrent layer or a Scan goes along it, step by step       (T, N, features), as time-major models have it
    no output begins with it, but one begins with a later axis    (T, N, features) to (N, classes)
    its name, or one on a later axis, says so                     see ``graphpress.data.inputs``
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from graphpress.analysis.shapes import infer_shapes
from graphpress.data.inputs import misplaced_batches
from graphpress.ir import (
    DataType,
    Model,
    Node,
    Shape,
    SymbolicDim,
    Value,
    clone,
    graphs,
    int_attribute,
    is_constant,
    is_standard,
    label,
)
from graphpress.ir.values import input_of, ints_attribute, symbolic_dims
from graphpress.runtime import InputSpec

_RECURRENT = ("RNN", "GRU", "LSTM")


def fed_inputs(model: Model) -> tuple[InputSpec, ...]:
    """What the model wants to be fed, with what the graph tells of first axes; inputs with a default are left out."""
    steps = steps_in_front(model)
    return tuple(
        InputSpec(
            label(value), (value.dtype or DataType.FLOAT).numpy(), symbolic_dims(value), label(value) not in steps
        )
        for value in model.graph.inputs
        if not is_constant(value)
    )


def steps_in_front(model: Model) -> frozenset[str]:
    """Names of the inputs whose first axis is open and counts no samples."""
    if not any(_leading(value) is None for value in model.graph.inputs):
        return frozenset()
    named = _with_names(model)
    steps = set(_walked(named))
    others = {*steps, *_left_behind(named, steps), *misplaced_batches(map(symbolic_dims, named.graph.inputs))} - {None}
    return frozenset(label(value) for value in named.graph.inputs if _symbol(value) in others)


def _leading(value: Value) -> int | None:
    """The size of the first axis where it is fixed; 0 where there is no such axis."""
    if not value.shape:
        return 0
    return value.shape[0] if isinstance(value.shape[0], int) else None


def _symbol(value: Value | None, axis: int = 0) -> str | None:
    """The name of the size of an axis."""
    if value is None or value.shape is None or len(value.shape) <= axis:
        return None
    return getattr(value.shape[axis], "value", None)


def _with_names(model: Model) -> Model:
    """The model, or a copy, in which every open first axis has a name; so have inner values where that tells steps."""
    unnamed = [
        value.shape is not None and _leading(value) is None and _symbol(value) is None for value in model.graph.inputs
    ]
    walks = any(is_standard(node, *_RECURRENT, "Scan") for graph in graphs(model) for node in graph)
    if not walks and not any(unnamed):
        return model
    copy = clone(model)
    for index, (value, is_unnamed) in enumerate(zip(copy.graph.inputs, unnamed, strict=True)):
        if is_unnamed and value.shape is not None:
            value.shape = Shape([SymbolicDim(f"first axis {index}"), *value.shape[1:]])
    if walks:
        infer_shapes(copy)
    return copy


def _walked(model: Model) -> Iterator[str | None]:
    """Names of the axes that something goes along step by step."""
    for graph in graphs(model):
        for node in graph:
            if is_standard(node, *_RECURRENT):
                yield _symbol(input_of(node, 0), int_attribute(node, "layout", 0))
            elif is_standard(node, "Scan"):
                yield from _scanned(node)


def _scanned(node: Node) -> Iterator[str | None]:
    count = int_attribute(node, "num_scan_inputs", 0)
    axes = ints_attribute(node, "scan_input_axes") or (0,) * count
    yield from (_symbol(value, axis) for value, axis in zip(node.inputs[-count:], axes, strict=False))


def _left_behind(model: Model, steps: Collection[str | None]) -> set[str | None]:
    """Names of first axes that no output begins with, where one begins with a later axis of an input, but steps."""
    begins = {_symbol(value) for value in model.graph.outputs}
    first = {_symbol(value) for value in model.graph.inputs}
    later = {_symbol(value, axis) for value in model.graph.inputs for axis in range(1, len(value.shape or ()))}
    return first - begins if (later & begins) - {None, *steps} else set()
