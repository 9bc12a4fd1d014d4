"""Reading and writing ONNX: a model file is untrusted input, and nothing is dropped silently.

Reading normalises four things: sparse initialisers become dense ones (bounded), unsorted nodes are sorted,
initialisers that an IR version below 4 lists as inputs stop being inputs (they were constants all along; the
model becomes IR version 4), and training information, which has no place here, is refused.
External data stays on disk, memory-mapped, and must lie inside the model's folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from graphpress.errors import ModelError
from graphpress.ir.types import Attr, AttributeType, ExternalTensor, Function, Graph, Model, TensorProtocol
from graphpress.ir.values import graphs
from graphpress.ir.verify import problems

FIRST_IR_WITH_CONSTANT_INITIALISERS = 4
MAX_DENSE_BYTES = 1 << 30
PROTOBUF_LIMIT = 2_000_000_000
"""Protobuf messages end at 2 GiB; beyond this, weights go to ``model.onnx.data``."""


def load(path: str | os.PathLike[str]) -> Model:
    """Read a model file.

    Raises:
        ModelError: the file is missing, no ONNX model, malformed, cyclic, or its external data is missing or
            outside its folder.
    """
    file = Path(path)
    if not file.is_file():
        raise ModelError("no such model file" if not file.exists() else "not a file", where=str(path),
                         fix="give the path of an .onnx file")
    try:
        proto = onnx.load(file, load_external_data=False, format="protobuf")
    except (DecodeError, OSError, ValueError) as error:
        raise ModelError(f"not a readable ONNX file ({error})", where=str(path),
                         fix="export the model again; the file may be truncated") from error
    return from_proto(proto, where=str(path), folder=file.parent)


def from_proto(proto: onnx.ModelProto, *, where: str = "model", folder: Path | None = None) -> Model:
    """Turn a protobuf message into a model; ``folder`` is where its external data lies.

    Raises:
        ModelError: as ``load``.
    """
    if not proto.ir_version or not proto.HasField("graph") or not proto.graph.output:
        raise ModelError("not an ONNX model: it has no graph with outputs", where=where, fix="export the model again")
    if proto.training_info:
        raise ModelError("holds training information, which would be lost", where=where,
                         fix="remove it first: del model.training_info[:]")
    _densify(proto.graph, where)
    try:
        model = onnx_ir.serde.deserialize_model(proto)
    except Exception as error:  # onnx_ir wraps whatever went wrong; any of it means a malformed file
        raise ModelError(f"malformed model ({_innermost(error)})", where=where,
                         fix="check it with onnx.checker.check_model") from error
    _settle_constant_inputs(model)
    _declare_opsets_in_subgraphs(model)
    _locate_external_data(model, where, folder)
    _sort(model, where)
    if faults := problems(model):
        raise ModelError("; ".join(faults[:3]), where=where, fix="check it with onnx.checker.check_model")
    return model


def to_proto(model: Model) -> onnx.ModelProto:
    """The model as a protobuf message; external tensors stay references to their files."""
    proto = onnx_ir.serde.serialize_model(model)
    _drop_repeated_types(proto.graph)
    return proto


def _drop_repeated_types(graph: onnx.GraphProto) -> None:
    """An initialiser states its own shape and type: no second statement unless it carries an annotation."""
    known = {tensor.name for tensor in graph.initializer}
    kept = [info for info in graph.value_info if info.name not in known or info.metadata_props]
    if len(kept) < len(graph.value_info):
        del graph.value_info[:]
        graph.value_info.extend(kept)


def clone(model: Model) -> Model:
    """An independent copy of the graph; the tensors, which are immutable, are shared."""
    copy = model.clone()
    for name, value in copy.graph.initializers.items():
        value.name = name
    return copy


def weight_bytes(model: Model) -> int:
    """Bytes of all constant tensors, those of subgraphs and ``Constant`` nodes included."""
    return sum(tensor.nbytes for tensor in tensors(model))


def tensors(model: Model) -> Iterator[TensorProtocol]:
    """Every constant tensor: initialisers and tensor attributes, in all graphs."""
    for graph in graphs(model):
        if isinstance(graph, onnx_ir.Graph):
            yield from (value.const_value for value in graph.initializers.values() if value.const_value is not None)
        for node in graph:
            for attribute in node.attributes.values():
                if isinstance(attribute, Attr) and not attribute.is_ref():
                    if attribute.type == AttributeType.TENSOR:
                        yield attribute.as_tensor()
                    elif attribute.type == AttributeType.TENSORS:
                        yield from attribute.as_tensors()


def save(model: Model, path: str | os.PathLike[str]) -> list[Path]:
    """Write ``path`` (and ``path.data`` when the weights pass the protobuf limit or were external already).

    Returns:
        The files written. Bytes are the same for the same model.
    """
    file = Path(path)
    external = any(isinstance(tensor, ExternalTensor) for tensor in tensors(model))
    if external or weight_bytes(model) > PROTOBUF_LIMIT:
        beside = file.name + ".data"
        onnx_ir.save(model, file, external_data=beside)
        return [file, *(path for path in [file.with_name(beside)] if path.exists())]
    file.write_bytes(serialize(model))
    return [file]


def serialize(model: Model) -> bytes:
    """The model as the bytes of an ONNX file, deterministic for equal models.

    Raises:
        ModelError: the model is too large for one protobuf message; use ``save``.
    """
    if weight_bytes(model) > PROTOBUF_LIMIT:
        raise ModelError("the weights do not fit into one protobuf message", fix="save the model to a file")
    return to_proto(model).SerializeToString(deterministic=True)


def _densify(graph: onnx.GraphProto, where: str) -> None:
    for sparse in graph.sparse_initializer:
        name, dims = sparse.values.name, tuple(sparse.dims)
        values = numpy_helper.to_array(sparse.values)
        if values.itemsize * int(np.prod(dims)) > MAX_DENSE_BYTES:
            raise ModelError(f"sparse initialiser {name!r} would take over {MAX_DENSE_BYTES} bytes when dense",
                             where=where, fix="store it dense, or keep it out of the graph")
        indices = numpy_helper.to_array(sparse.indices)
        flat = indices if indices.ndim == 1 else np.ravel_multi_index(tuple(indices.T), dims)
        dense = np.zeros(dims, values.dtype)
        dense.reshape(-1)[flat] = values
        graph.initializer.append(numpy_helper.from_array(dense, name))
    del graph.sparse_initializer[:]
    for node in graph.node:
        for attribute in node.attribute:
            for subgraph in (attribute.g, *attribute.graphs):
                if subgraph.sparse_initializer or subgraph.node:
                    _densify(subgraph, where)


def _settle_constant_inputs(model: Model) -> None:
    if model.ir_version >= FIRST_IR_WITH_CONSTANT_INITIALISERS:
        return
    inputs = [value for value in model.graph.inputs if value.name not in model.graph.initializers]
    model.graph.inputs[:] = inputs
    model.ir_version = FIRST_IR_WITH_CONSTANT_INITIALISERS


def _declare_opsets_in_subgraphs(model: Model) -> None:
    owners: list[Graph | Function] = [model.graph, *model.functions.values()]
    for owner in owners:
        for subgraph in owner.subgraphs():
            subgraph.opset_imports.update(owner.opset_imports)


def _locate_external_data(model: Model, where: str, folder: Path | None) -> None:
    for tensor in tensors(model):
        if not isinstance(tensor, ExternalTensor):
            continue
        place = f"{where}, tensor {tensor.name!r}"
        if folder is None:
            raise ModelError("has external data but no folder was given", where=place, fix="load it from its file")
        root = folder.resolve()
        target = (root / tensor.location).resolve()
        if not target.is_relative_to(root):
            raise ModelError(f"external data {str(tensor.location)!r} lies outside the model's folder", where=place,
                             fix="move the data beside the model and export it again")
        if not target.is_file():
            raise ModelError(f"external data {str(tensor.location)!r} is missing", where=place,
                             fix="copy the data file beside the model")
        if (tensor.offset or 0) + (tensor.length or tensor.nbytes) > target.stat().st_size:
            raise ModelError(f"external data {str(tensor.location)!r} is shorter than the model says", where=place,
                             fix="copy the data file again")
        tensor.base_dir = root


def _sort(model: Model, where: str) -> None:
    for graph in (model.graph, *model.functions.values()):
        try:
            graph.sort()
        except ValueError as error:
            raise ModelError("the graph has a cycle", where=where, fix="export the model again") from error


def _innermost(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error) or type(error).__name__).splitlines()[0][:200]
