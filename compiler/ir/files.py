"""Reading and writing ONNX: a model file is untrusted input, and nothing is dropped silently.

Reading normalizes (the rest is in ``graphpress.ir.import_fixups``): unsorted nodes are sorted, and initializers that an
IR version below 4 lists as inputs stop being inputs (they were constants all along; the model becomes IR version 4).
Encodings, which files hold as text and tensors, are attached to the values and nodes that they belong to.
What is not kept, because it holds no information: types of names that nothing in their graph defines, types of
initializers that repeat the tensor's own, checksums of external data, absent outputs at the end of a node's list.
External data stays on disk, memory-mapped, and must lie inside the model's folder.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import onnx
import onnx_ir
from google.protobuf.message import DecodeError, EncodeError  # type: ignore[import-untyped]

from graphpress.errors import GraphpressError, ModelError, reraise_resource_fault
from graphpress.ir.annotation_text import START_OVER
from graphpress.ir.contents import CHECKER
from graphpress.ir.docs import drop_docs
from graphpress.ir.encoding.encoded_tensor import EncodedTensor
from graphpress.ir.encoding.loading import read_encodings
from graphpress.ir.encoding.saving import holds_encodings, write_encodings
from graphpress.ir.external import fill, finder, in_memory, locate
from graphpress.ir.garbage import paused_collection
from graphpress.ir.import_fixups import prepare, restore
from graphpress.ir.long_lists import bring_back, take_out
from graphpress.ir.order import sort
from graphpress.ir.other_formats import model_file
from graphpress.ir.types import (
    DataType,
    ExternalTensor,
    Function,
    Graph,
    Model,
    TensorProtocol,
)
from graphpress.ir.values import with_subgraphs
from graphpress.ir.verify import annotation_problems, fits_declared, structure_problems
from graphpress.ir.weights import (
    LARGE_FILE_BYTES,
    LeftInFile,
    exchanged,
    initializers,
    read_without_weights,
    tensors,
    weight_bytes,
    write_one_by_one,
)
from graphpress.scratch import OWNER, scratch_beside

FIRST_IR_WITH_CONSTANT_INITIALIZERS = 4
PROTOBUF_LIMIT = 2_000_000_000
"""Protobuf messages end at 2 GiB; beyond this, weights go to ``model.onnx.data``."""
MAPPED_BYTES = 1 << 28
"""The same for models with encodings, which no runtime loads: beyond this, their weights are mapped when read."""
INLINE_BYTES = 256
"""Constants up to this size stay in the model file even when the others go to ``model.onnx.data``."""

LOGGER = logging.getLogger("graphpress")
# What onnx_ir warns of is an error here, with place and remedy: no second line where logging is not set up.
logging.getLogger("onnx_ir").addHandler(logging.NullHandler())


# -- reading ------------------------------------------------------------------------------------------------


def load(path: str | os.PathLike[str]) -> Model:
    """Read a model file.

    Raises:
        ModelError: the file is missing, no ONNX model, malformed, cyclic, or its external data is missing or
            outside its folder.
    """
    proto, left = _message(model_file(path))
    return from_proto(proto, where=str(path), folder=Path(path).parent, left=left)


def load_without_docs(path: str | os.PathLike[str]) -> tuple[Model, int]:
    """As ``load``, without doc strings and without what exporters note beside inner nodes and values.

    Returns:
        The model, and how many bytes of text it is without.
    """
    proto, left = _message(model_file(path))
    dropped = drop_docs(proto)
    return from_proto(proto, where=str(path), folder=Path(path).parent, left=left), dropped


def read_message(path: str | os.PathLike[str]) -> onnx.ModelProto:
    """Read a model file as a message without its large weights and external data, in a tenth of the graph's time.

    Raises:
        ModelError: it is no message.
    """
    return _message(Path(path))[0]


def _message(path: Path) -> tuple[onnx.ModelProto, LeftInFile | None]:
    try:
        return read_without_weights(path) or (onnx.load(path, load_external_data=False, format="protobuf"), None)
    except (DecodeError, OSError, ValueError) as error:
        raise ModelError(
            f"not a readable ONNX file ({error})",
            where=str(path),
            fix="export the model again; the file may be truncated",
        ) from error


@paused_collection()
def from_proto(
    proto: onnx.ModelProto,
    *,
    where: str = "model",
    folder: Path | None = None,
    held: Mapping[str, TensorProtocol] | None = None,
    left: LeftInFile | None = None,
) -> Model:
    """Turn a protobuf message into a model, which takes the message over: don't use it afterwards.

    Args:
        proto: the message.
        where: what errors call it.
        folder: where its external data lies.
        held: the tensors themselves, by the place that the message refers to (``graphpress.ir.skeleton``), those of
            encodings included.
        left: weights that the message was read without.

    Raises:
        ModelError: as ``load``.
    """
    if not proto.ir_version or not proto.HasField("graph") or not proto.graph.output:
        raise ModelError("not an ONNX model: it has no graph with outputs", where=where, fix="export the model again")
    with importing(where):
        return _read(proto, where, folder, held, left)


@contextmanager
def importing(where: str) -> Iterator[None]:
    """Around what reads a file, and nothing else: whatever stops it that no check foresaw, the file is malformed.

    Raises:
        ModelError: an exception of any kind ended the block.
    """
    try:
        yield
    except GraphpressError:
        raise
    except Exception as error:  # onnx_ir wraps whatever went wrong
        reraise_resource_fault(error, where)
        LOGGER.debug("%s cannot be read", where, exc_info=True)
        raise ModelError(f"malformed model ({_innermost(error)})", where=where, fix=CHECKER) from error


def _read(
    proto: onnx.ModelProto,
    where: str,
    folder: Path | None,
    held: Mapping[str, TensorProtocol] | None,
    left: LeftInFile | None,
) -> Model:
    """The model of a message, as ``from_proto``."""
    prepare(proto, where)
    long_lists = take_out(proto)
    model = onnx_ir.serde.deserialize_model(proto)
    bring_back(model, long_lists)
    _read_types_of_function_inputs(proto, model)
    _settle_constant_inputs(model)
    _declare_opsets_in_subgraphs(model)
    if left is not None:
        left.attach(model, where)
    if held is None:
        locate(model, where, folder)
    else:
        fill(model, held, where)
    _declare_constants(model)
    sort(model, where)
    try:
        read_encodings(model, None if held is None else finder(held))
        broken, annotated = structure_problems(model), annotation_problems(model)
    except ModelError as error:
        raise ModelError(error.what, where=f"{where}, {error.where}", fix=error.fix) from error
    if faults := broken + annotated:
        raise ModelError("; ".join(faults[:3]), where=where, fix=CHECKER if broken else START_OVER)
    return model


def _read_types_of_function_inputs(proto: onnx.ModelProto, model: Model) -> None:
    for message in proto.functions:
        inputs = {value.name: value for value in model.functions[message.domain, message.name, message.overload].inputs}
        for info in message.value_info:
            if info.name in inputs:
                onnx_ir.serde.deserialize_value_info_proto(info, inputs[info.name])


def _settle_constant_inputs(model: Model) -> None:
    if model.ir_version >= FIRST_IR_WITH_CONSTANT_INITIALIZERS:
        return
    inputs = [value for value in model.graph.inputs if value.name not in model.graph.initializers]
    model.graph.inputs[:] = inputs
    model.ir_version = FIRST_IR_WITH_CONSTANT_INITIALIZERS


def _declare_constants(model: Model) -> None:
    """A constant has the shape of its tensor, whatever a declaration leaves open; the verifier refuses another one."""
    for value in initializers(model):
        tensor = value.const_value
        if tensor is not None and not value.is_graph_input() and fits_declared(value, tensor):
            value.shape = tensor.shape  # type: ignore[assignment]  # which a tensor of ours always has


def _declare_opsets_in_subgraphs(model: Model) -> None:
    owners: list[Graph | Function] = [model.graph, *model.functions.values()]
    for owner in owners:
        for graph in with_subgraphs(owner):
            if graph is not owner:
                graph.opset_imports.update(owner.opset_imports)


def _innermost(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error) or type(error).__name__).splitlines()[0][:200]


# -- in memory ----------------------------------------------------------------------------------------------


@paused_collection()
def clone(model: Model) -> Model:
    """An independent copy of the graph; the tensors, which are immutable, are shared, and so is what is known of it."""
    copy = model.clone()
    copy.meta.update(model.meta)
    for name, value in copy.graph.initializers.items():
        value.name = name
    return copy


# -- writing ------------------------------------------------------------------------------------------------


@paused_collection()
def to_proto(model: Model, *, encodings: bool = True) -> onnx.ModelProto:
    """The model as a protobuf message; external tensors stay references to their files.

    Args:
        model: not changed.
        encodings: write them too, for whoever reads the message as a model of ours; without them it is the float
            graph that the passes see, its constants decoded, for whoever runs it or infers types.
    """
    proto = onnx_ir.serde.serialize_model(_as_stored(model) if encodings else model)
    restore(proto)
    return proto


def _as_stored(model: Model) -> Model:
    """The model with its encodings as a file holds them; itself where it has none."""
    if not holds_encodings(model):
        return model
    copy = clone(model)
    write_encodings(copy)
    return copy


def serialize(model: Model) -> bytes:
    """The model as the bytes of an ONNX file, deterministic for equal models.

    Raises:
        ModelError: the model is too large for one protobuf message; use ``save``.
    """
    return _serialize(_as_stored(model))


def _serialize(stored: Model) -> bytes:
    if weight_bytes(stored) > PROTOBUF_LIMIT:
        raise ModelError("the weights do not fit into one protobuf message", fix="save the model to a file")
    return _encode(to_proto(stored, encodings=False))


def _write(stored: Model, write: Callable[[bytes], object]) -> None:
    """Write what ``_serialize`` returns; of the large weights, only one at a time is in memory."""
    if not LARGE_FILE_BYTES <= weight_bytes(stored) <= PROTOBUF_LIMIT:
        write(_serialize(stored))
        return
    write_one_by_one(stored, lambda: _encode(to_proto(stored, encodings=False)), write)


def digest(model: Model) -> str:
    """SHA-256 of everything in the model, in hexadecimal; external data, to which its serialized form only refers, too.

    Raises:
        ModelError: the model is too large for one protobuf message.
    """
    stored = _as_stored(model)
    contents = hashlib.sha256()
    _write(stored, contents.update)
    for tensor in tensors(stored):
        if isinstance(tensor, ExternalTensor):
            contents.update(tensor.tobytes())
    return contents.hexdigest()


def save(model: Model, path: str | os.PathLike[str], *, encodings: bool = True, apart: int | None = None) -> list[Path]:
    """Write ``path`` (and ``path.data`` when the weights pass the protobuf limit or were external already).

    Files are written aside and put in place when they are complete, so that a model may replace the one it came from.

    Args:
        model: stays as it was.
        path: of the model file.
        encodings: as for ``to_proto``.
        apart: constants of more bytes than this go to ``path.data``; None leaves them where they are or have to be.

    Returns:
        The files written. Bytes are the same for the same model.

    Raises:
        ModelError: what must be in the model file itself is too large for one protobuf message.
    """
    file = Path(path)
    stored = _as_stored(model) if encodings else model
    external = any(isinstance(value.const_value, ExternalTensor) for value in initializers(stored))
    with scratch_beside(file) as folder:
        aside = folder / file.name
        limit = PROTOBUF_LIMIT if stored is model else MAPPED_BYTES
        if external or apart is not None or weight_bytes(stored) > limit:
            _follow(_save_with_data(stored, aside, INLINE_BYTES if apart is None else apart), file, model)
        else:
            with aside.open("wb") as message:
                _write(stored, message.write)
        names = sorted(written.name for written in folder.iterdir() if written.name != OWNER)
        for name in reversed(names):
            aside.with_name(name).replace(file.with_name(name))
    return [file.with_name(name) for name in names]


def _save_with_data(model: Model, file: Path, least: int) -> list[tuple[TensorProtocol, TensorProtocol]]:
    """Write the model and its data; the model stays as it was. Returns the tensors, before and as saved."""
    values = [value for value in initializers(model) if value.const_value is not None]
    before = [value.const_value for value in values if value.const_value is not None]
    large = [tensor for tensor in before if tensor.nbytes > least and tensor.dtype != DataType.STRING]
    outside = dict(zip(map(id, large), _write_data(large, file.with_name(f"{file.name}.data")), strict=True))
    after = [outside[id(tensor)] if id(tensor) in outside else in_memory(tensor) for tensor in before]
    with exchanged(values, after):
        file.write_bytes(_encode(to_proto(model, encodings=False)))
    return list(zip(before, after, strict=True))


def _write_data(large: Sequence[TensorProtocol], file: Path) -> list[ExternalTensor]:
    if not large:
        return []
    written = onnx_ir.external_data.convert_tensors_to_external(large, file.parent, file.name)
    for tensor, copy in zip(large, written, strict=True):
        copy.doc_string = tensor.doc_string
        copy.metadata_props.update(tensor.metadata_props)
    return written


def _follow(saved: Sequence[tuple[TensorProtocol, TensorProtocol]], file: Path, model: Model) -> None:
    """Where the model was mapped from the very file that is being replaced, map it from the new one.

    Another holder of such a tensor, a clone for instance, gets an error from it instead of other weights.
    """
    target = file.with_name(f"{file.name}.data").resolve()
    replaced: dict[int, TensorProtocol] = {}
    for before, after in saved:
        if isinstance(before, ExternalTensor) and Path(before.path).resolve() == target:
            if isinstance(after, ExternalTensor):
                after.base_dir = target.parent
            replaced[id(before)] = after
            before.invalidate()
    for value in initializers(model) if replaced else ():
        tensor = value.const_value
        if isinstance(tensor, EncodedTensor) and id(tensor.codes) in replaced:
            value.const_value = EncodedTensor(replaced[id(tensor.codes)], tensor.encoding, tensor.dtype, tensor.name)
        elif id(tensor) in replaced:
            value.const_value = replaced[id(tensor)]


def _encode(proto: onnx.ModelProto) -> bytes:
    try:
        encoded: bytes = proto.SerializeToString(deterministic=True)
    except (EncodeError, ValueError) as error:
        raise ModelError(
            f"does not fit into one protobuf message ({error})",
            where="model",
            fix="turn large constants in attributes into initializers",
        ) from error
    return encoded
