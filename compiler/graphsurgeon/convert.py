"""onnx-graphsurgeon: a model as the graph that users' existing surgeries know, and back.

onnx-graphsurgeon holds nodes, tensors and graphs, and drops what it has no place for: metadata (where encodings live),
documentation, overloads, types other than those of tensors, overridable initializers, constants that nothing reads.
All of it rides beside and comes back by name (``graphpress.graphsurgeon.merge``): what the surgery did not touch is as
it was, bit for bit. What it removed or renamed takes its annotations with it: ``lost_annotations`` lists them.

Tensors are never copied on the way. The graph's constants refer to the model's own, which are read from their file
when somebody asks for ``values``; a constant that comes back with the same numbers is the model's own again, whatever
its type (int4, float8 and bfloat16 included, which onnx-graphsurgeon itself cannot export).

A function with overloads appears as ``name:overload``, because the graph knows names only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from graphpress.errors import BackendError, ModelError
from graphpress.graphsurgeon.limits import encode_overloads, narrow, settle
from graphpress.graphsurgeon.merge import merge
from graphpress.ir import Graph, Model, Node, Tensor, TensorProtocol, Value, from_proto, graphs, values_of
from graphpress.ir.encoding import annotations_of, invalidate_encoding
from graphpress.ir.skeleton import to_skeleton
from graphpress.ir.sparsity import set_sparsity

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

INSTALL = "pip install 'graphpress[graphsurgeon]'"
PLACE_OF_NEW = "new/"
"""Where the message refers to for tensors that the surgery made."""
MAX_SHOWN = 8


def to_graphsurgeon(model: Model) -> gs.Graph:
    """The model as a graph of onnx-graphsurgeon. The model is not changed; its tensors are shared, not copied.

    Raises:
        BackendError: onnx-graphsurgeon is not installed.
    """
    surgeon = load_graphsurgeon()
    proto, held = to_skeleton(model)
    narrow(proto)
    with _quiet():
        graph = surgeon.import_onnx(proto)
    for constant in _constants(graph):
        place = _place(constant._values.tensor)
        if place in held:
            constant._values, constant.data_location = _held_values()(constant._values, held[place]), None
    return graph


def from_graphsurgeon(graph: gs.Graph, like: Model | None = None) -> Model:
    """The model that a graph of onnx-graphsurgeon describes.

    Args:
        graph: not changed.
        like: the model that the graph was made from: gives back what the graph cannot hold.

    Raises:
        BackendError: onnx-graphsurgeon is not installed.
        ModelError: the graph is no valid model; the message names the node or value.
    """
    surgeon = load_graphsurgeon()
    held: dict[str, TensorProtocol] = {}
    if like is None:
        proto = _export(surgeon, graph, held, {})
    else:
        ours, held = to_skeleton(like)
        base = _unchanged(surgeon, ours)
        theirs = _export(surgeon, graph, held, _initializers(like))
        for message in (base, theirs):
            encode_overloads(message, ours)
        proto = merge(ours, base, theirs)
        settle(ours.graph, proto.graph)
    model = from_proto(proto, where="the graph of onnx-graphsurgeon", held=held)
    if like is not None:
        _invalidate_changed(model, like)
    return model


def lost_annotations(before: Model, after: Model) -> list[str]:
    """Which values and nodes lost annotations of ours between two models, as sentences; none when nothing was lost."""
    sentences = []
    for word, old, new in zip(("values", "nodes"), _annotations(before), _annotations(after), strict=True):
        if lost := [name for name, keys in old.items() if keys - new.get(name, set())]:
            more = f" and {len(lost) - MAX_SHOWN} more" if len(lost) > MAX_SHOWN else ""
            names = ", ".join(lost[:MAX_SHOWN])
            sentences.append(f"annotations were lost with {word} that were removed, renamed or changed: {names}{more}")
    return sentences


def load_graphsurgeon() -> Any:
    """The module ``onnx_graphsurgeon``.

    Raises:
        BackendError: it is not installed.
    """
    try:
        import onnx_graphsurgeon
    except ImportError as error:
        raise BackendError(
            f"onnx-graphsurgeon is not available ({error})", where="onnx_graphsurgeon", fix=INSTALL
        ) from error
    return onnx_graphsurgeon


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep onnx-graphsurgeon from warning of losses that are none here."""
    from onnx_graphsurgeon.logger import G_LOGGER

    severity = G_LOGGER.severity
    G_LOGGER.severity = max(severity, G_LOGGER.ERROR)
    try:
        yield
    finally:
        G_LOGGER.severity = severity


# -- tensors ------------------------------------------------------------------------------------------------


@cache
def _held_values() -> type[Any]:
    """A class of lazy values that refer to a tensor of ours; made here because its base may be absent."""
    from onnx_graphsurgeon.ir.tensor import LazyValues

    class HeldValues(LazyValues):  # type: ignore[misc]
        """Values of a tensor that stays where it is until somebody asks for them."""

        def __init__(self, header: Any, held: TensorProtocol) -> None:
            self.held = held
            self.shape, self.dtype, self.nbytes = header.shape, header.dtype, header.nbytes

        @property
        def tensor(self) -> TensorProto:
            """The whole tensor as a message, for what onnx-graphsurgeon exports by itself."""
            return TensorProto(
                data_type=int(self.held.dtype), dims=self.held.shape.numpy(), raw_data=self.held.tobytes()
            )

        def load(self) -> np.ndarray:
            """A copy, which the surgery may write to."""
            return np.array(self.held.numpy())

    return HeldValues


def _constants(graph: gs.Graph) -> list[gs.Constant]:
    """Every constant of the graph, its subgraphs and functions, those in attributes included; each once."""
    surgeon = load_graphsurgeon()
    constants: dict[int, Any] = {}
    pending: list[Any] = [graph, *graph.functions]
    while pending:
        owner = pending.pop()
        tensors = [*owner.inputs, *owner.outputs]
        for node in owner.nodes:
            tensors += [*node.inputs, *node.outputs, *node.attrs.values()]
            pending += [attribute for attribute in node.attrs.values() if isinstance(attribute, surgeon.Graph)]
        constants.update((id(tensor), tensor) for tensor in tensors if isinstance(tensor, surgeon.Constant))
    return list(constants.values())


def _export(
    surgeon: Any, graph: gs.Graph, held: dict[str, TensorProtocol], known: Mapping[str, Sequence[TensorProtocol]]
) -> onnx.ModelProto:
    """The graph as a message whose tensors lie in ``held``, to which those that the surgery made are added."""
    constants = _constants(graph)
    before = [constant._values for constant in constants]
    places = {id(tensor): place for place, tensor in held.items()}
    try:
        for constant in constants:
            constant._values = _reference(constant, held, places, known)
        with _quiet():
            proto: onnx.ModelProto = surgeon.export_onnx(graph, do_type_check=False)
    except Exception as error:  # onnx-graphsurgeon raises what its helpers raise
        raise ModelError(
            f"onnx-graphsurgeon cannot export the graph ({type(error).__name__}: {error})",
            where="the graph of onnx-graphsurgeon",
            fix="give attributes and constants types that ONNX knows",
        ) from error
    finally:
        for constant, values in zip(constants, before, strict=True):
            constant._values = values
    if graph.ir_version is None:
        proto.ir_version = helper.find_min_ir_version_for(proto.opset_import, ignore_unknown=True)
    return proto


def _reference(
    constant: gs.Constant,
    held: dict[str, TensorProtocol],
    places: dict[int, str],
    known: Mapping[str, Sequence[TensorProtocol]],
) -> Any:
    """What to export in place of the values: a message that refers to ``held``, or the values themselves."""
    from onnx_graphsurgeon.ir.tensor import LazyValues

    values = constant._values
    if isinstance(values, _held_values()):
        tensor = values.held
    elif not isinstance(values, np.ndarray):
        return values
    else:
        values = _as_exported(constant)
        tensor = next((original for original in known.get(constant.name, ()) if _equal(values, original)), None)
        if tensor is None and values.dtype.kind not in "OSU":
            tensor = Tensor(values)
    reference = object.__new__(LazyValues)
    reference.shape, reference.dtype = values.shape, values.dtype
    if tensor is None:
        reference.tensor = numpy_helper.from_array(values.astype(object))
        return reference
    place = places.setdefault(id(tensor), f"{PLACE_OF_NEW}{len(held)}")
    held[place] = tensor
    reference.tensor = TensorProto(
        data_type=int(tensor.dtype), dims=tensor.shape.numpy(), data_location=TensorProto.EXTERNAL
    )
    reference.tensor.external_data.add(key="location", value=place)
    return reference


def _as_exported(constant: gs.Constant) -> np.ndarray:
    """The values in the type that the surgery wants them to have in the model."""
    wanted = constant._export_dtype
    if wanted is None:
        return np.asarray(constant._values)
    return np.asarray(constant._values).astype(
        helper.tensor_dtype_to_np_dtype(wanted) if isinstance(wanted, int) else wanted
    )


def _equal(array: np.ndarray, tensor: TensorProtocol) -> bool:
    """Whether the bits are the same: NaN is itself, and the two zeros differ."""
    if array.shape != tuple(tensor.shape.numpy()) or array.dtype != tensor.dtype.numpy():
        return False
    if array.dtype == object:
        return bool(np.array_equal(array, tensor.numpy()))
    bits, tensor_bits = (np.ascontiguousarray(each).reshape(-1).view(np.uint8) for each in (array, tensor.numpy()))
    return bool(np.array_equal(bits, tensor_bits))


def _place(tensor: TensorProto) -> str:
    return next((entry.value for entry in tensor.external_data if entry.key == "location"), "")


def _initializers(model: Model) -> dict[str, list[TensorProtocol]]:
    """Every initializer's tensor by name; several where graphs within have constants of one name."""
    tensors: dict[str, list[TensorProtocol]] = {}
    for graph in graphs(model):
        for name, value in graph.initializers.items() if isinstance(graph, Graph) else ():
            if value.const_value is not None:
                tensors.setdefault(name, []).append(value.const_value)
    return tensors


# -- what the graph cannot hold -----------------------------------------------------------------------------


def _unchanged(surgeon: Any, ours: onnx.ModelProto) -> onnx.ModelProto:
    """What comes back of a message that nobody changes."""
    copy = onnx.ModelProto()
    copy.CopyFrom(ours)
    narrow(copy)
    with _quiet():
        base: onnx.ModelProto = surgeon.export_onnx(surgeon.import_onnx(copy), do_type_check=False)
    return base


# -- annotations --------------------------------------------------------------------------------------------


def _invalidate_changed(model: Model, like: Model) -> None:
    """Encodings and sparsity of constants whose contents are no longer the model's own do not hold any more."""
    before = _initializers(like)
    for graph in graphs(model):
        for name, value in graph.initializers.items() if isinstance(graph, Graph) else ():
            if name in before and not any(value.const_value is original for original in before[name]):
                invalidate_encoding(value, "its contents were replaced")
                set_sparsity(value, None)


def _annotations(model: Model) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """The keys of our annotations on values, and on nodes, by name."""
    values: dict[str, set[str]] = {}
    nodes: dict[str, set[str]] = {}
    for graph in graphs(model):
        for value in values_of(graph):
            values.setdefault(value.name or "", set()).update(_own_keys(value))
        for node in graph:
            nodes.setdefault(node.name or node.op_type, set()).update(_own_keys(node))
    return values, nodes


def _own_keys(item: Node | Value) -> set[str]:
    return {key for key, _ in annotations_of(item)}
