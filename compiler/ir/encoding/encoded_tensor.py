"""Constants held as their codes: decoded on demand, and written out without a rounding.

The codes are the truth. Rounding that was chosen (GPTQ, AdaRound, coordinate descent) lives in them, and survives
clones, files and every pass that leaves the constant alone. Whoever edits the float values takes the codes away and
invalidates the encoding (``Editor.set_constant``), or sets new codes.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import onnx_ir

from graphpress.errors import ModelError
from graphpress.ir.encoding.affine import AffineEncoding
from graphpress.ir.encoding.annotations import set_encoding
from graphpress.ir.encoding.arithmetic import codes_shape, decode_array, decoded_shape, encode_array
from graphpress.ir.encoding.codebook import CodebookEncoding
from graphpress.ir.encoding.grids import bits_of, data_type, integer_dtype
from graphpress.ir.encoding.kinds import Encoding
from graphpress.ir.types import DataType, LazyTensor, Shape, TensorProtocol, Value
from graphpress.ir.values import is_constant, label


class EncodedTensor(LazyTensor):
    """A float constant held as its codes.

    Args:
        codes: integers (or 8-bit floats) of the encoding's type.
        encoding: what the codes mean.
        dtype: the float type that readers see.
        name: of the tensor.
    """

    def __init__(self, codes: TensorProtocol, encoding: Encoding, dtype: DataType, name: str | None = None) -> None:
        self.codes, self.encoding = codes, encoding
        super().__init__(
            self._decode, dtype=dtype, shape=Shape(decoded_shape(tuple(codes.shape.numpy()), encoding)), name=name
        )

    def _decode(self) -> TensorProtocol:
        return onnx_ir.tensor(decode_array(self.codes.numpy(), self.encoding, self.dtype.numpy()))

    @cached_property
    def fault(self) -> str | None:
        """Why the codes cannot be decoded; None where they can. Looks at every code of a codebook, once."""
        encoding = self.encoding
        if encoding.fault is not None:
            return encoding.fault
        if self.codes.dtype != data_type(encoding.dtype):
            return f"has codes of type {self.codes.dtype}, not {encoding.dtype}"
        if isinstance(encoding, AffineEncoding) and encoding.is_dynamic:
            return "has codes, and a dynamic encoding"
        return encoding.misfit(tuple(self.shape.numpy())) or self._index_fault()

    def _index_fault(self) -> str | None:
        if not isinstance(self.encoding, CodebookEncoding):
            return None
        entries = len(self.encoding.table)
        if entries == 2 ** bits_of(self.encoding.dtype):
            return None
        largest = int(self.codes.numpy().astype(np.int64).max(initial=0))
        return None if largest < entries else f"has the code {largest}, and its table {entries} entries"


def codes_of(tensor: TensorProtocol, encoding: Encoding) -> np.ndarray:
    """The codes of a constant under an encoding: its own where it is held in that encoding, else the nearest ones."""
    if isinstance(tensor, EncodedTensor) and tensor.encoding.grid == encoding.grid:
        return tensor.codes.numpy()
    return encode_array(tensor.numpy(), encoding)


def set_codes(value: Value, codes: np.ndarray, encoding: Encoding) -> None:
    """Hold a constant as these codes and annotate it: they are delivered as they are, never rounded anew.

    Args:
        value: an initializer of a float type.
        codes: of the encoding's type (or integers that it holds), in the shape of the value.
        encoding: what the codes mean.

    Raises:
        ModelError: the value is no float initializer, or the codes do not fit it or their type.
    """
    tensor = value.const_value if value.is_initializer() and is_constant(value) else None
    if tensor is None or not tensor.dtype.is_floating_point():
        raise _misfit(value, "is no initializer of a float type", "give codes to a float weight")
    shape = tuple(tensor.shape.numpy())
    if codes.shape != codes_shape(shape, encoding):
        raise _misfit(value, f"has shape {list(shape)}, its codes {list(codes.shape)}", "give one code an element")
    typed = codes.astype(integer_dtype(encoding.dtype))
    if not np.array_equal(typed.astype(codes.dtype), codes):
        raise _misfit(value, f"has codes that {encoding.dtype} does not hold", "choose codes within its bounds")
    value.const_value = EncodedTensor(packed(typed, data_type(encoding.dtype)), encoding, tensor.dtype, tensor.name)
    set_encoding(value, encoding)


def packed(codes: np.ndarray, dtype: DataType) -> TensorProtocol:
    """An array as a tensor that takes no more memory than its bits: integers under 8 bits share bytes."""
    bits = int(dtype.bitwidth)
    if bits >= 8:
        return onnx_ir.Tensor(codes, dtype)
    per_byte = 8 // bits
    flat = codes.reshape(-1).astype(np.int8).view(np.uint8) & (2**bits - 1)
    padded = np.append(flat, np.zeros(-len(flat) % per_byte, np.uint8)).reshape(-1, per_byte)
    together = np.bitwise_or.reduce(padded << (bits * np.arange(per_byte, dtype=np.uint8)), axis=1)
    return onnx_ir.PackedTensor(together, dtype, shape=codes.shape)


def _misfit(value: Value, why: str, fix: str) -> ModelError:
    return ModelError(why, where=label(value), fix=fix)
