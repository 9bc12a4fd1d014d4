"""From a model file to the graph that passes see: fixed input shapes, names, known types, pinned encodings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from graphpress.analysis.shapes import infer_shapes
from graphpress.backend import ShapeRange
from graphpress.errors import UsageError, did_you_mean
from graphpress.ir import Editor, Model, Refusal, Shape, SymbolicDim, graphs, input_of
from graphpress.ir.encoding import read_encoding, request_compute
from graphpress.ir.qdq import import_qdq
from graphpress.ops import lookup

EIGHT_BITS = ("int8", "uint8")


def parse_input_shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Read ``NAME=1x3x224x224`` options.

    Raises:
        UsageError: one is not of that form.

    >>> parse_input_shapes(["x=1x3x8x8"])
    {'x': (1, 3, 8, 8)}
    """
    shapes = {}
    for text in texts:
        name, equals, dims = text.rpartition("=")
        form = "NAME=1x3x224x224"
        if not equals:
            raise UsageError(f"cannot read {text!r}", where="--input-shape", fix=f"write {form}")
        shapes[name] = _parse_dims(dims, "--input-shape", form)
    return shapes


def _parse_dims(text: str, option: str, form: str) -> tuple[int, ...]:
    """The sizes in ``1x3x224x224``; none in an empty text."""
    parts = text.split("x") if text else []
    if not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
        raise UsageError(f"cannot read {text!r}", where=option, fix=f"write {form}, sizes as 1x3x224x224")
    return tuple(int(part) for part in parts)


def parse_input_ranges(texts: Sequence[str], model: Model) -> dict[str, ShapeRange]:
    """Read ``NAME=1x3x8x8:4x3x8x8:16x3x8x8`` options: minimum, optimum and maximum shape of an input.

    Raises:
        UsageError: one is not of that form, names no input of the model, or its shapes are not in order.
    """
    inputs = {value.name or "": value for value in model.graph.inputs}
    ranges: dict[str, ShapeRange] = {}
    for text in texts:
        name, _, shapes = text.rpartition("=")
        parts = shapes.split(":")
        if len(parts) != 3:
            raise UsageError(f"cannot read {text!r}", where="--input-range", fix="write NAME=MIN:OPT:MAX")
        if name not in inputs:
            raise UsageError(f"the model has no input {name!r}", where="--input-range", fix=did_you_mean(name, inputs))
        minimum, optimum, maximum = (_parse_dims(part, "--input-range", "NAME=MIN:OPT:MAX") for part in parts)
        if not len(minimum) == len(optimum) == len(maximum) or any(
            not low <= middle <= high for low, middle, high in zip(minimum, optimum, maximum, strict=True)
        ):
            raise UsageError(f"{shapes!r} is not in order", where="--input-range", fix="write NAME=MIN:OPT:MAX")
        declared = inputs[name].shape
        if declared is not None:
            for shape in (minimum, optimum, maximum):
                _check_dims(f"--input-range {name}", declared, shape)
        ranges[name] = ShapeRange(minimum, optimum, maximum)
    return ranges


def prepare(model: Model, input_shapes: Mapping[str, tuple[int, ...]]) -> list[Refusal]:
    """Make a freshly loaded model ready for passes, in place.

    Returns:
        Q/DQ nodes that stay nodes, with the reason.

    Raises:
        UsageError: an input shape names no input, or contradicts the model.
    """
    _fix_inputs(model, input_shapes)
    _name_nodes(model)
    refusals = import_qdq(model).refusals
    _request_pinned(model)
    infer_shapes(model)
    return refusals


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
            _check_dims(f"--input-shape {name}", declared, dims)
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


def _check_dims(option: str, declared: Shape, dims: tuple[int, ...]) -> None:
    fits = len(declared) == len(dims) and all(
        old == new for old, new in zip(declared, dims, strict=True) if isinstance(old, int)
    )
    if not fits:
        words = ", ".join(str(dim if isinstance(dim, int) else dim.value or "?") for dim in declared)
        raise UsageError(
            f"{list(dims)} contradicts the model's [{words}]",
            where=option,
            fix="give the same number of dimensions, and change only those that the model leaves open",
        )


def _name_nodes(model: Model) -> None:
    """Give nameless nodes the name of what they compute: reports and ``--exclude`` need one."""
    edit = Editor(model)
    for graph in graphs(model):
        for node in graph:
            if not node.name and node.outputs:
                node.name = edit.fresh_name(f"{node.op_type}_{node.outputs[0].name}")
