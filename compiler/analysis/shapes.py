"""Shapes and types, symbolic and concrete, through ONNX's own shape inference.

Inference runs on a light form of the graph: large constants become inputs of the same shape, so that neither their
size nor protobuf's limit matters. Where ONNX leaves a shape open that concrete inputs decide, a walk over the nodes
evaluates shape arithmetic and completes what depends on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

import onnx

from graphpress.analysis.reference import is_negative, static_dims
from graphpress.analysis.shape_walk import complete
from graphpress.analysis.stand_ins import stand_in_for_unknown
from graphpress.data.free_sizes import candidate_shapes, sizes_by_name
from graphpress.errors import reraise_resource_fault
from graphpress.ir import (
    DataType,
    Dims,
    Graph,
    Model,
    Refusal,
    Shape,
    SymbolicDim,
    TensorType,
    Value,
    clone,
    graphs,
    label,
    static_shape,
    with_subgraphs,
)
from graphpress.ir.foreign import is_defined
from graphpress.ir.garbage import paused_collection
from graphpress.ir.light import to_light_proto
from graphpress.ir.opaque import opaque_nodes
from graphpress.ir.values import dims_text, symbolic_dims
from graphpress.memory import memory_budget
from graphpress.runtime import InputSpec

LARGE = 1024
"""Constants of more elements than this are no shape arithmetic; inference sees only their type."""

PROPAGATED = 1 << 21
"""Elements of vectors that onnx may propagate, at some 140 bytes each."""

INFERENCE_BYTES = 1 << 29
"""Memory that inference may take, beside some copies of the message: a long vector may come up on the way."""

_TOO_LONG = "graphpress.too_long_to_propagate"

_ASSUMED = "graphpress.assumed_shapes"
CANDIDATES = 2
"""Sizes of open dimensions that are tried where inference leaves shapes unknown (a table has but 64 positions, say)."""
MOST_CANDIDATES = 8
"""The same where sizes contradict the graph: a window that is longer than what it slides over."""

_Types = dict[str, onnx.TypeProto]
_Dim = int | str | None
"""A size, the name of an open one, or neither."""


def infer_shapes(model: Model) -> list[str]:
    """Fill in the shapes and types that can be inferred, in place, subgraphs included.

    What is declared stays; unknown or symbolic dimensions of inner values become numbers where inference knows them.
    A graph output that declares a shape keeps it.

    Returns:
        What went wrong, one sentence each; empty when inference ran. It never raises for a strange model.
    """
    notes: list[str] = []
    _merge_all(model, _infer(_serialize(model, notes), notes, model))
    return notes


def with_inner_shapes(model: Model) -> Model:
    """A copy in which inner values declare the shapes that can be inferred, for viewers; runtimes infer them anyway."""
    copy = clone(model)
    infer_shapes(copy)
    return copy


def settle_shapes(model: Model) -> list[Refusal]:
    """As ``infer_shapes``, for a model whose declarations nobody has checked: what contradicts inference is corrected.

    A declared shape is a claim of whoever wrote the file, and runtimes do not hold it against the file: where it and
    the nodes disagree, the nodes are right, for graph outputs too. What inference cannot tell stays as declared.

    Returns:
        Declarations that were corrected, in graph order.
    """
    notes: list[str] = []
    try:
        _merge_all(model, _infer(_serialize(model, notes), notes, model, strict=True))
    except onnx.shape_inference.InferenceError:  # a contradiction, or what inference cannot follow: the lenient way can
        corrected = _correct_declared(model)
        infer_shapes(model)
        return corrected
    return []


@paused_collection()
def concrete_shapes(model: Model, input_shapes: Mapping[str, Dims] | None = None) -> dict[str, Dims]:
    """Static shapes of all values, by name, when the inputs have these shapes.

    Inputs that are not given have the shapes that ``assume_shapes`` says; else their symbolic dimensions take the size
    that the symbol has in others, or the likeliest that ``graphpress.data.free_sizes`` knows: of several, that which
    leaves fewest shapes unknown.

    Returns:
        The shapes that are known; a value whose size depends on data is missing.
    """
    given = input_shapes or model.meta.get(_ASSUMED, {})
    best: dict[str, Dims] = {}
    for tried, shapes in enumerate(candidate_shapes(_open_inputs(model), given), 1):
        copy, sizes = clone(model), _sizes_in(model, shapes)
        for value in copy.graph.inputs:
            if value.name in given or value.shape is not None:
                value.shape = Shape(shapes[value.name or ""])
        _forget_inner_shapes(copy, sizes)
        known, is_complete, is_contradictory = _settled(copy, model)
        if is_complete or len(known) > len(best):
            best = known
        if is_complete or tried >= (MOST_CANDIDATES if is_contradictory else CANDIDATES):
            break
    return best | _constant_shapes(model)


def assume_shapes(model: Model, input_shapes: Mapping[str, Dims]) -> None:
    """Remember for the model and its copies with which shapes it is used: every analysis sees it with them."""
    model.meta[_ASSUMED] = dict(input_shapes)


def shapes_after(model: Model, before: Mapping[str, Dims]) -> dict[str, Dims]:
    """As ``known_shapes`` where that leaves nothing open, else as ``concrete_shapes``, which takes far longer."""
    known = known_shapes(model, before)
    outputs = (output.name for graph in graphs(model) for node in graph for output in node.outputs)
    return known if known.keys() >= {name for name in outputs if name} else concrete_shapes(model)


def known_shapes(model: Model, before: Mapping[str, Dims]) -> dict[str, Dims]:
    """Static shapes after a change that left every value its shape; cheap, because nothing is inferred.

    Args:
        model: the changed model.
        before: static shapes before the change, by value name.

    Returns:
        Those of ``before``, and of new values those that they carry, with symbols as in ``concrete_shapes``. A new
        value without a shape, or with a symbol that no input has, is missing.
    """
    likeliest = next(candidate_shapes(_open_inputs(model), model.meta.get(_ASSUMED, {})))
    sizes = _sizes_in(model, {**likeliest, **before})
    shapes = {**before, **_constant_shapes(model)}
    for graph in graphs(model):
        for value in (*graph.inputs, *(output for node in graph for output in node.outputs)):
            if value.name is None or value.shape is None or value.name in shapes:
                continue
            dims = [dim if isinstance(dim, int) else sizes.get(dim.value or "") for dim in value.shape]
            known = tuple(dim for dim in dims if dim is not None)
            if len(known) == len(dims):
                shapes[value.name] = known
    return shapes


def _open_inputs(model: Model) -> list[InputSpec]:
    """The inputs as those see them who feed the model."""
    return [
        InputSpec(value.name or "", (value.dtype or DataType.FLOAT).numpy(), symbolic_dims(value))
        for value in model.graph.inputs
    ]


def _sizes_in(model: Model, shapes: Mapping[str, Dims]) -> dict[str, int]:
    """Sizes by symbol where the inputs have these shapes."""
    pairs = (sizes_by_name(symbolic_dims(value), shapes.get(value.name or "", ())) for value in model.graph.inputs)
    return {name: size for sizes in pairs for name, size in sizes}


# -- inference ------------------------------------------------------------------------------------------------


def _settled(model: Model, origin: Model) -> tuple[dict[str, Dims], bool, bool]:
    """Infer over the whole graph; complete node by node; whole again for what subgraphs may now know.

    Args:
        model: what to infer over.
        origin: what it is a copy of.

    Returns:
        The shapes that are known, whether those are all, and whether the sizes of the inputs make none.
    """
    notes: list[str] = []
    proto = _serialize(model, notes)
    inferred = _infer(proto, notes, origin)
    wanted = {output.name for graph in graphs(model) for node in graph for output in node.outputs if output.name}
    known = _static(inferred)
    if proto is not None and not wanted <= known.keys():
        completed = complete(proto, inferred)
        proto.graph.value_info.extend(onnx.helper.make_value_info(name, info) for name, info in completed.items())
        known = _static(_infer(proto, notes, origin)) | _static(completed)
    return known, wanted <= known.keys(), any(map(is_negative, inferred.values()))


def _static(types: _Types) -> dict[str, Dims]:
    return {name: dims for name, info in types.items() if (dims := static_dims(info)) is not None}


def _serialize(model: Model, notes: list[str]) -> onnx.ModelProto | None:
    """The message for inference: without large constants, and with operators that inference knows."""
    try:
        proto = to_light_proto(model, LARGE)
    except Exception as error:  # whatever stops serialization stops inference, and only that
        reraise_resource_fault(error)
        notes.append(f"shape inference could not read the model: {_first_line(error)}")
        return None
    stand_in_for_unknown(proto.graph)
    return proto


def _infer(proto: onnx.ModelProto | None, notes: list[str], model: Model, *, strict: bool = False) -> _Types:
    """Types by value name, of names that are used once in the model, which remembers when propagation is too much.

    Raises:
        InferenceError: something contradicts something, and inference is to be strict.
    """
    if proto is None:
        return {}
    for data_prop in (True, False):
        if data_prop and (model.meta.get(_TOO_LONG) or _is_long(proto)):
            continue
        _raise_once()
        try:
            with memory_budget(INFERENCE_BYTES + 4 * proto.ByteSize()):
                inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=strict, data_prop=data_prop)
        except MemoryError:
            notes.append("shape inference wanted more memory than it may have")
            model.meta[_TOO_LONG] = True
            continue
        except Exception as error:  # onnx raises several kinds for models it cannot follow
            reraise_resource_fault(error)
            if strict and isinstance(error, onnx.shape_inference.InferenceError):
                raise
            notes.append(f"shape inference failed: {_first_line(error)}")
            continue
        return _types_of(inferred.graph)
    return {}


def _raise_once() -> None:
    """The first C++ exception of a thread takes memory: it must not be the one that says that there is none left."""
    with suppress(onnx.defs.SchemaError):
        onnx.defs.get_schema("no operator at all")


def _is_long(proto: onnx.ModelProto) -> bool:
    """Whether the vectors among the inputs are too long to be propagated: onnx takes each for one that holds sizes."""
    shapes = (static_dims(value.type) or () for value in proto.graph.input)
    return sum(shape[0] for shape in shapes if len(shape) == 1) > PROPAGATED


def _types_of(graph: onnx.GraphProto) -> _Types:
    types: _Types = {}
    twice: set[str] = set()
    for info in _infos(graph):
        if info.name in types:
            twice.add(info.name)
        types[info.name] = info.type
    return {name: proto for name, proto in types.items() if name not in twice}


def _infos(graph: onnx.GraphProto) -> Iterator[onnx.ValueInfoProto]:
    yield from graph.input
    outputs = {info.name for info in graph.input}
    for info in (*graph.value_info, *graph.output):
        if info.name not in outputs:
            outputs.add(info.name)
            yield info
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _infos(attribute.g)
            elif attribute.type == onnx.AttributeProto.GRAPHS:
                for subgraph in attribute.graphs:
                    yield from _infos(subgraph)


# -- what is declared -----------------------------------------------------------------------------------------


def _forget_inner_shapes(model: Model, sizes: Mapping[str, int]) -> None:
    """Declared shapes hold for the symbolic sizes; only those of operators without inference are worth keeping.

    Types go too: onnx 1.23 takes wrong sizes from a value that declares a type without a shape.
    """
    opaque = set(opaque_nodes(model))
    for graph in graphs(model):
        for node in graph:
            for output in node.outputs:
                if node in opaque or not is_defined(node):
                    output.shape = _bound(output, sizes)
                elif not output.is_graph_output():
                    output.shape, output.type = None, None
                else:
                    output.shape = None


def _correct_declared(model: Model) -> list[Refusal]:
    """Replace declared shapes that are not those which follow from the inputs alone; says which."""
    copy = clone(model)
    _forget_inner_shapes(copy, {})
    inferred, corrected = _infer(_serialize(copy, []), [], model), []
    for value in _inner_values(model):
        if value.shape is None or value.name not in inferred:
            continue
        tensor = inferred[value.name].tensor_type
        if tensor.HasField("shape") and not _agree(value.shape, dims := [_dim(dim) for dim in tensor.shape.dim]):
            why = f"its declared shape {dims_text(value.shape)} is not believed: it is computed as {dims_text(dims)}"
            corrected.append(Refusal(label(value), why, "declare what is computed, or no shape at all"))
            value.shape = Shape(_joined(value.shape, dims) if len(value.shape) == len(dims) else dims)
    return corrected


def _agree(declared: Shape, inferred: Sequence[_Dim]) -> bool:
    """Whether a tensor can have both shapes."""
    return len(declared) == len(inferred) and all(
        old == new for old, new in zip(declared, inferred, strict=True) if isinstance(old, int) and isinstance(new, int)
    )


def _bound(value: Value, sizes: Mapping[str, int]) -> Shape | None:
    if value.shape is None:
        return None
    return Shape([dim if isinstance(dim, int) else sizes.get(str(dim.value), dim.value) for dim in value.shape])


# -- merging back ---------------------------------------------------------------------------------------------


def _inner_values(model: Model) -> Iterator[Value]:
    for graph in with_subgraphs(model.graph):
        for node in graph:
            yield from node.outputs
        if graph is not model.graph:
            yield from graph.inputs


def _merge_all(model: Model, inferred: _Types) -> None:
    for value in _inner_values(model):
        if value.name in inferred:
            _merge(value, inferred[value.name])


def _merge(value: Value, proto: onnx.TypeProto) -> None:
    if not proto.HasField("tensor_type"):
        return
    tensor = proto.tensor_type
    if value.type is None and tensor.elem_type:
        value.type = TensorType(DataType(tensor.elem_type))
    if not tensor.HasField("shape") or (value.is_graph_output() and value.shape is not None):
        return
    inferred = [_dim(dim) for dim in tensor.shape.dim]
    declared = value.shape
    if declared is None:
        value.shape = Shape(inferred)
    elif len(declared) == len(inferred):
        merged = _joined(declared, inferred)
        if merged != list(declared):
            value.shape = Shape(merged)


def _joined(declared: Shape, inferred: Sequence[_Dim]) -> list[int | SymbolicDim | _Dim]:
    """The sizes that inference knows, else what is declared."""
    return [new if isinstance(new, int) else old for old, new in zip(declared, inferred, strict=True)]


def _dim(dim: onnx.TensorShapeProto.Dimension) -> _Dim:
    if dim.HasField("dim_value"):
        return dim.dim_value
    return dim.dim_param or None


def _constant_shapes(model: Model) -> dict[str, Dims]:
    return {
        name: dims
        for graph in reversed(list(graphs(model)))  # of one name twice, that of the outer graph
        if isinstance(graph, Graph)
        for name, value in graph.initializers.items()
        if (dims := static_shape(value)) is not None
    }


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
