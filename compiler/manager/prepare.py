"""From a model file to the graph that passes see: fixed input shapes, names, known types, pinned encodings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from graphpress.analysis.shapes import settle_shapes
from graphpress.errors import UsageError, did_you_mean
from graphpress.ir import Editor, Model, Refusal, Shape, SymbolicDim, graphs, input_of, present_outputs
from graphpress.ir.encoding import read_encoding, request_compute
from graphpress.ir.qdq import import_qdq
from graphpress.ir.values import dims_text
from graphpress.ops import lookup

EIGHT_BITS = ("int8", "uint8")


def prepare(model: Model, input_shapes: Mapping[str, tuple[int, ...]]) -> list[Refusal]:
    """Make a freshly loaded model ready for passes, in place.

    Returns:
        Q/DQ nodes that stay nodes, and declared shapes that are not believed, with the reason.

    Raises:
        UsageError: an input shape names no input, or contradicts the model.
    """
    _fix_inputs(model, input_shapes)
    name_nodes(model)
    refusals = import_qdq(model).refusals
    _request_pinned(model)
    return [*refusals, *settle_shapes(model)]


def _request_pinned(model: Model) -> None:
    """What arrived with integers before and in it was asked for integer arithmetic by whoever quantized it."""
    for graph in graphs(model):
        for node in graph:
            spec = lookup(node.op_type, node.domain)
            weight = None if spec is None else spec.quantization.weight
            if weight is None or input_of(node, weight) is None:
                continue
            operands = [read_encoding(node, index) for index in (0, weight)]
            if all(encoding is not None and encoding.dtype in EIGHT_BITS for encoding in operands):
                request_compute(node, "int8")


def _fix_inputs(model: Model, input_shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Fix the inputs, and every other mention of the symbols that this gives a size."""
    inputs = {value.name or "": value for value in model.graph.inputs}
    sizes: dict[str, int] = {}
    for name, dims in input_shapes.items():
        if name not in inputs:
            raise UsageError(f"the model has no input {name!r}", where="--input-shape", fix=did_you_mean(name, inputs))
        declared = inputs[name].shape
        if declared is not None:
            check_dims(f"--input-shape {name}", declared, dims)
            sizes.update(_symbols(declared, dims))
        inputs[name].shape = Shape(dims)
    for graph in graphs(model) if sizes else ():
        for value in (*graph.inputs, *(output for node in graph for output in node.outputs), *graph.outputs):
            if value.shape is not None:
                value.shape = Shape([sizes.get(getattr(dim, "value", None) or "", dim) for dim in value.shape])


def _symbols(declared: Shape, dims: Sequence[int]) -> Iterator[tuple[str, int]]:
    for old, new in zip(declared, dims, strict=True):
        if isinstance(old, SymbolicDim) and old.value:
            yield old.value, new


def check_dims(option: str, declared: Shape, dims: tuple[int, ...]) -> None:
    """Whether sizes that a user gives fit what the model declares.

    Raises:
        UsageError: they contradict it.
    """
    fits = len(declared) == len(dims) and all(
        old == new for old, new in zip(declared, dims, strict=True) if isinstance(old, int)
    )
    if not fits:
        raise UsageError(
            f"{list(dims)} contradicts the model's {dims_text(declared)}",
            where=option,
            fix="give the same number of dimensions, and change only those that the model leaves open",
        )


def name_nodes(model: Model) -> None:
    """Give nameless nodes the name of what they compute: reports and ``--exclude`` need one."""
    edit = Editor(model)
    for graph in graphs(model):
        for node in graph:
            if not node.name and (results := present_outputs(node)):
                node.name = edit.fresh_name(f"{node.op_type}_{results[0].name}")
