"""Large weights of a model file: they stay in it, are read when they are asked for, and written one by one.

A model of a gigabyte is therefore opened, changed and written without its weights ever being in memory together. Files
without large weights are read and written whole.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
import onnx_ir

from graphpress.errors import ModelError
from graphpress.ir.contents import CHECKER
from graphpress.ir.external import LARGE_BYTES, exchange
from graphpress.ir.types import AttributeType, DataType, ExternalTensor, LazyTensor, Model, TensorProtocol, Value
from graphpress.ir.values import TENSOR_TYPES, attributes_of, graphs
from graphpress.ir.wire import Insert, Piece, Span, WireError, length_field, rewrite, varint_field

LARGE_FILE_BYTES = 1 << 26
"""A smaller model is read and written whole."""
_CHUNK_BYTES = 1 << 24
_PAGE_BYTES = 1 << 12
_APART = "model.onnx.data"
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_KEY, _VALUE = 1, 2
_PLACEHOLDER_BYTES = 1 << 12
"""What stands in a message for a weight that is yet to be written: longer than most nodes, which are not searched."""


@dataclass(frozen=True)
class ModelBytes:
    """The bytes of a model file as it was when it was opened.

    Args:
        path: the file.
        state: what tells whether it is still the same: size, time of the last change, number.
    """

    path: Path
    state: tuple[int, int, int] = field(compare=False)

    @classmethod
    def of(cls, path: Path) -> ModelBytes:
        """The file as it is now."""
        return cls(path, _state(os.stat(path)))

    def __len__(self) -> int:
        return self.state[0]

    def __getitem__(self, part: slice) -> bytes:
        return self.read(Span(part.start, part.stop - part.start)).tobytes()

    def read(self, span: Span) -> np.ndarray:
        """The bytes of a place, ``[size]`` of uint8.

        Raises:
            ModelError: the file was changed since it was opened.
        """
        array = np.empty(span.size, np.uint8)
        with self.path.open("rb") as file:
            file.seek(span.start)
            is_whole = file.readinto(array.data) == span.size
            if not is_whole or _state(os.fstat(file.fileno())) != self.state:
                raise ModelError(
                    "was changed while it was being read",
                    where=str(self.path),
                    fix="run again when nothing writes to it",
                )
        array.flags.writeable = False
        return array

    def chunks(self, span: Span) -> Iterator[bytes]:
        """The same, some at a time."""
        stop = span.start + span.size
        for start in range(span.start, stop, _CHUNK_BYTES):
            yield self[start : min(start + _CHUNK_BYTES, stop)]


def _state(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ino


class StoredTensor(LazyTensor):
    """A weight that is read from its model file each time that it is asked for.

    Args:
        data: the file.
        span: its bytes there, in the form of ``TensorProto.raw_data``.
        reference: what the message says of it.
    """

    def __init__(self, data: ModelBytes, span: Span, reference: ExternalTensor) -> None:
        self.data, self.span = data, span
        super().__init__(
            self._read,
            dtype=reference.dtype,
            shape=reference.shape,
            name=reference.name,
            doc_string=reference.doc_string,
            metadata_props=dict(reference.metadata_props),
        )

    def chunks(self) -> Iterator[bytes]:
        """Its bytes, some at a time."""
        return self.data.chunks(self.span)

    def tofile(self, file: BinaryIO) -> None:
        """Write its bytes to a file."""
        for chunk in self.chunks():
            file.write(chunk)

    def _read(self) -> TensorProtocol:
        array = self.data.read(self.span)
        if self.dtype.bitwidth < 8:
            return onnx_ir.PackedTensor(array, self.dtype, shape=self.shape)
        kind = np.dtype(self.dtype.numpy()).newbyteorder("<")
        return onnx_ir.Tensor(array.view(kind).reshape(self.shape.numpy()), self.dtype)


def weight_bytes(model: Model) -> int:
    """Bytes of all constant tensors, those of subgraphs and ``Constant`` nodes included."""
    return sum(tensor.nbytes for tensor in tensors(model))


def tensors(model: Model) -> Iterator[TensorProtocol]:
    """Every constant tensor: initializers and tensor attributes, in all graphs."""
    for graph in graphs(model):
        if isinstance(graph, onnx_ir.Graph):
            for value in graph.initializers.values():
                if value.const_value is not None:
                    yield value.const_value
        for node in graph:
            for attribute in attributes_of(node):
                if attribute.type in TENSOR_TYPES and not attribute.is_ref():
                    yield from (attribute.value,) if attribute.type == AttributeType.TENSOR else attribute.value


def initializers(model: Model) -> Iterator[Value]:
    """The initializers of all graphs."""
    for graph in graphs(model):
        if isinstance(graph, onnx_ir.Graph):
            yield from graph.initializers.values()


@contextmanager
def exchanged(values: Sequence[Value], tensors: Sequence[TensorProtocol]) -> Iterator[None]:
    """The values hold these tensors for as long as the block runs."""
    before = [value.const_value for value in values]
    try:
        for value, tensor in zip(values, tensors, strict=True):
            value.const_value = tensor
        yield
    finally:
        for value, old in zip(values, before, strict=True):
            value.const_value = old


# -- reading ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LeftInFile:
    """The large weights of a model whose message was read without them.

    Args:
        data: the file.
        spans: where they lie, by the place of external data that the message names: one that nobody can guess.
    """

    data: ModelBytes
    spans: Mapping[str, Span]

    def attach(self, model: Model, where: str) -> None:
        """Put the weights in the place of the references to them.

        Raises:
            ModelError: one is not as long as its shape says.
        """

        def find(tensor: TensorProtocol) -> TensorProtocol:
            if not isinstance(tensor, ExternalTensor) or str(tensor.location) not in self.spans:
                return tensor
            span = self.spans[str(tensor.location)]
            if tensor.dtype == DataType.STRING or tensor.nbytes != span.size:
                raise ModelError(
                    f"holds {span.size} bytes, which is not what its type and shape {list(tensor.shape.numpy())} need",
                    where=f"{where}, tensor {tensor.name!r}",
                    fix=CHECKER,
                )
            return StoredTensor(self.data, span, tensor)

        exchange(model, find)


def read_without_weights(path: Path) -> tuple[onnx.ModelProto, LeftInFile] | None:
    """A model file as a message without its large weights; None where it has none, or is no message."""
    data, spans, secret = ModelBytes.of(path), dict[str, Span](), secrets.token_hex(16)

    def refer(span: Span) -> bytes:
        place = f"{secret}/{len(spans)}"
        spans[place] = span
        return _reference(location=place)

    message = _without_weights(data, refer)
    if not spans or not message:
        return None
    proto = onnx.ModelProto()
    proto.ParseFromString(message)
    return proto, LeftInFile(data, spans)


def write_apart(path: Path, folder: Path, external: int) -> Path | None:
    """The model with its large weights in a file of their own, which a runtime maps; None where it has none.

    Args:
        path: a model file.
        folder: where the two are written.
        external: how many of its weights are large, or lie elsewhere already: with such it stays where it is.
    """
    data, spans = ModelBytes.of(path), dict[int, Span]()
    end = 0

    def refer(span: Span) -> bytes:
        nonlocal end
        start = -(-end // _PAGE_BYTES) * _PAGE_BYTES
        spans[start], end = span, start + span.size
        return _reference(location=_APART, offset=str(start), length=str(span.size))

    message = _without_weights(data, refer)
    if not message or not spans or len(spans) != external:
        return None
    with (folder / _APART).open("wb") as weights:
        for start, span in spans.items():
            weights.seek(start)
            for chunk in data.chunks(span):
                weights.write(chunk)
    file = folder / "model.onnx"
    file.write_bytes(message)
    return file


def _without_weights(data: ModelBytes, refer: Callable[[Span], bytes]) -> bytes:
    """The message without its large weights, of each of which it says where it is; empty for what is none, or small."""
    if len(data) < LARGE_FILE_BYTES:
        return b""
    try:
        pieces = rewrite(data, LARGE_BYTES, refer)
    except WireError:
        return b""
    return b"".join(_bytes_of(piece, data) for piece in pieces)


def _bytes_of(piece: Piece, data: ModelBytes) -> bytes:
    assert not isinstance(piece, Insert)
    return piece if isinstance(piece, bytes) else data[piece.start : piece.start + piece.size]


def _reference(**entries: str) -> bytes:
    """Fields of a tensor that say where its contents lie."""
    texts = [length_field(_KEY, key.encode()) + length_field(_VALUE, value.encode()) for key, value in entries.items()]
    fields = b"".join(length_field(_EXTERNAL_DATA, text) for text in texts)
    return fields + varint_field(_DATA_LOCATION, onnx.TensorProto.EXTERNAL)


# -- writing ------------------------------------------------------------------------------------------------


def write_one_by_one(model: Model, encode: Callable[[], bytes], write: Callable[[bytes], object]) -> None:
    """Write the bytes of a model, of whose large weights one at a time is in memory.

    Args:
        model: stays as it was.
        encode: its message, of whatever tensors it has when it is called.
        write: takes the bytes one after the other.
    """
    weights: dict[bytes, TensorProtocol] = {}

    def placeholder(tensor: TensorProtocol) -> TensorProtocol:
        kept = isinstance(tensor, (ExternalTensor, onnx_ir.StringTensor, onnx_ir.serde.TensorProtoTensor))
        if kept or tensor.nbytes < LARGE_BYTES:
            return tensor
        token = secrets.token_bytes(_PLACEHOLDER_BYTES)
        weights[token] = tensor
        return _Placeholder(token, tensor)

    def weight_at(span: Span) -> Insert | None:
        tensor = weights.get(message[span.start : span.start + span.size])
        return None if tensor is None else Insert(tensor)

    values = [value for value in initializers(model) if value.const_value is not None]
    with exchanged(values, [placeholder(value.const_value) for value in values if value.const_value is not None]):
        message = encode()
    for piece in rewrite(message, _PLACEHOLDER_BYTES, weight_at):
        if isinstance(piece, Insert):
            for chunk in piece.tensor.chunks() if isinstance(piece.tensor, StoredTensor) else [piece.tensor.tobytes()]:
                write(chunk)
        else:
            write(piece if isinstance(piece, bytes) else message[piece.start : piece.start + piece.size])


class _Placeholder(LazyTensor):
    """Stands for a weight while a message is made; where it stood, the weight is put in."""

    def __init__(self, token: bytes, tensor: TensorProtocol) -> None:
        self._token = token
        super().__init__(
            lambda: tensor,
            dtype=tensor.dtype,
            shape=onnx_ir.Shape(tensor.shape.numpy()),
            name=tensor.name,
            doc_string=tensor.doc_string,
            metadata_props=dict(tensor.metadata_props),
        )

    def tobytes(self) -> bytes:
        return self._token
