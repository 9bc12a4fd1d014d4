"""External data: weights in files beside the model, memory-mapped, and never outside the model's folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir

from graphpress.errors import ModelError
from graphpress.ir.types import Attr, AttributeType, DataType, ExternalTensor, Model, TensorProtocol
from graphpress.ir.values import TENSOR_TYPES, attributes_of, graphs

_COPY = "copy the data file beside the model"
LARGE_BYTES = 1 << 20
"""A smaller weight is read with the rest of its model, and stays in memory."""


class MappedTensor(ExternalTensor):
    """A large weight in external data, mapped for as long as somebody holds its array.

    What onnx_ir maps it keeps, and with it every page that was ever looked at.
    """

    @classmethod
    def of(cls, tensor: ExternalTensor) -> MappedTensor:
        """The same tensor."""
        return cls(
            tensor.location,
            tensor.offset,
            tensor.length,
            tensor.dtype,
            shape=tensor.shape,
            name=tensor.name,
            doc_string=tensor.doc_string,
            metadata_props=dict(tensor.metadata_props),
            base_dir=tensor.base_dir,
        )

    def numpy(self) -> np.ndarray:
        """The array, which holds the mapping."""
        array = super().numpy()
        self._array = self.raw = None
        return array

    def __array__(self, dtype: Any = None) -> np.ndarray:
        array: np.ndarray = self.numpy().__array__(dtype)
        return array

    def tobytes(self) -> bytes:
        """A copy of its bytes."""
        copy = super().tobytes()
        self._array = self.raw = None
        return copy


def locate(model: Model, where: str, folder: Path | None) -> None:
    """Tie each external tensor to its file; those of attributes, which nothing can save outside, come into memory.

    Raises:
        ModelError: the data is missing, too short, outside the folder, or there is no folder to look in.
    """
    root = None if folder is None else folder.resolve()
    for graph in graphs(model):
        if isinstance(graph, onnx_ir.Graph):
            for value in graph.initializers.values():
                if isinstance(value.const_value, ExternalTensor):
                    _locate_tensor(value.const_value, where, root)
                    if value.const_value.nbytes >= LARGE_BYTES:
                        value.const_value = MappedTensor.of(value.const_value)
        for node in graph:
            for attribute in attributes_of(node):
                if attribute.type in TENSOR_TYPES:
                    node.attributes[attribute.name] = _attribute_in_memory(attribute, where, root)


def _attribute_in_memory(attribute: Attr, where: str, root: Path | None) -> Attr:
    tensors = [attribute.value] if attribute.type == AttributeType.TENSOR else list(attribute.value)
    if attribute.is_ref() or not any(isinstance(tensor, ExternalTensor) for tensor in tensors):
        return attribute
    for index, tensor in enumerate(tensors):
        if isinstance(tensor, ExternalTensor):
            _locate_tensor(tensor, where, root)
            tensors[index] = in_memory(tensor)
    value = tensors[0] if attribute.type == AttributeType.TENSOR else tensors
    return Attr(attribute.name, attribute.type, value, doc_string=attribute.doc_string)


def in_memory(tensor: TensorProtocol) -> TensorProtocol:
    """The tensor itself, or a copy in memory of one that lies in a file."""
    if not isinstance(tensor, ExternalTensor):
        return tensor
    copy = onnx_ir.Tensor(tensor.numpy().copy(), tensor.dtype, name=tensor.name, doc_string=tensor.doc_string)
    copy.metadata_props.update(tensor.metadata_props)
    return copy


def _locate_tensor(tensor: ExternalTensor, where: str, root: Path | None) -> None:
    place = f"{where}, tensor {tensor.name!r}"
    if root is None:
        raise ModelError("has external data but no folder was given", where=place, fix="load it from its file")
    if tensor.dtype == DataType.STRING:
        raise ModelError("holds strings, which cannot be external data", where=place, fix="store them in the model")
    data = f"external data {str(tensor.location)!r}"
    offset, length = tensor.offset or 0, tensor.nbytes if tensor.length is None else tensor.length
    if offset < 0 or length != tensor.nbytes:
        raise ModelError(
            f"{data} has {length} bytes at {offset} where the shape needs {tensor.nbytes}",
            where=place,
            fix="export the model again",
        )
    try:
        target = (root / tensor.location).resolve()
        if not target.is_relative_to(root):
            raise ModelError(
                f"{data} lies outside the model's folder",
                where=place,
                fix="move the data beside the model and export it again",
            )
        if not target.is_file():
            raise ModelError(f"{data} is missing", where=place, fix=_COPY)
        status = target.stat()
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"{data} cannot be read ({error})", where=place, fix=_COPY) from error
    if status.st_nlink > 1:
        raise ModelError(f"{data} is a hard link, which may lead outside the model's folder", where=place, fix=_COPY)
    if offset + length > status.st_size:
        raise ModelError(f"{data} is shorter than the model declares", where=place, fix="copy the data file again")
    tensor.base_dir = root


def fill(model: Model, held: Mapping[str, TensorProtocol], where: str) -> None:
    """Put the tensors in the place of the references to them, in place.

    Raises:
        ModelError: a reference leads elsewhere.
    """

    def find(tensor: TensorProtocol) -> TensorProtocol:
        if not isinstance(tensor, ExternalTensor):
            return tensor
        if str(tensor.location) not in held:
            raise ModelError(
                f"external data {str(tensor.location)!r} was not loaded",
                where=f"{where}, tensor {tensor.name!r}",
                fix="load it with the model: onnx.load does so by itself",
            )
        return held[str(tensor.location)]

    exchange(model, find)


def finder(held: Mapping[str, TensorProtocol]) -> Callable[[str], np.ndarray]:
    """A function that looks up the array of a place, and raises ValueError where nothing is held."""

    def find(place: str) -> np.ndarray:
        if place not in held:
            raise ValueError(f"there is no tensor {place!r}")
        return held[place].numpy()

    return find


def exchange(model: Model, change: Callable[[TensorProtocol], TensorProtocol]) -> None:
    """Replace every tensor, those of attributes included."""
    for graph in graphs(model):
        if isinstance(graph, onnx_ir.Graph):
            for value in graph.initializers.values():
                if value.const_value is not None:
                    value.const_value = change(value.const_value)
        for node in graph:
            for name, attribute in node.attributes.items():
                if isinstance(attribute, Attr) and not attribute.is_ref():
                    node.attributes[name] = _exchanged(attribute, change)


def _exchanged(attribute: Attr, change: Callable[[TensorProtocol], TensorProtocol]) -> Attr:
    if attribute.type not in (AttributeType.TENSOR, AttributeType.TENSORS):
        return attribute
    single = attribute.type == AttributeType.TENSOR
    value = change(attribute.as_tensor()) if single else [change(tensor) for tensor in attribute.as_tensors()]
    return Attr(attribute.name, attribute.type, value, doc_string=attribute.doc_string)
