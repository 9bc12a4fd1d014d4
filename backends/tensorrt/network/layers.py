"""Layers of one ONNX node: what TensorRT's network API makes awkward, made once.

Ranks are made equal before tensors meet, which TensorRT requires and ONNX does not. A size is an ``int`` where it is
known and otherwise a tensor of one integer that TensorRT computes from shapes at run time; whatever takes sizes takes
both. Types are never changed here: operands that differ are an error of the graph.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphpress.backends.tensorrt.network.types import (
    index_type,
    is_bool,
    is_float,
    is_integer,
    onnx_type,
    weights,
)
from graphpress.errors import ModelError

Tensor = Any
"""An ``ITensor``."""
Size = int | Tensor
"""A known size, or a tensor of shape [1] of TensorRT's index type."""


class LayerBuilder:
    """Adds layers to a network under the name of the node they stand for.

    Args:
        trt: the module ``tensorrt`` or ``tensorrt_rtx``.
        network: an ``INetworkDefinition``.
        name: of the ONNX node; layers beyond the first get a number behind it.
        held: takes the arrays that the network views; they must outlive the build.
    """

    def __init__(self, trt: Any, network: Any, name: str, held: list[np.ndarray]) -> None:
        self.trt, self.network, self.name = trt, network, name
        self._held, self._count = held, 0

    # -- any layer ----------------------------------------------------------------------------------------------

    def add(self, kind: str, *args: Any, **kwargs: Any) -> Any:
        """The layer that ``network.add_<kind>(*args, **kwargs)`` makes, named after the node.

        Raises:
            ModelError: this TensorRT has no such layer, or does not take these operands.
        """
        method = getattr(self.network, f"add_{kind}", None)
        if method is None:
            raise self.refuse(f"this TensorRT ({self.trt.__version__}) has no layer {kind!r}", "use a newer TensorRT")
        try:
            layer = method(*args, **kwargs)
        except (TypeError, ValueError, RuntimeError) as error:
            raise self.refuse(f"TensorRT does not take the operands ({str(error).splitlines()[0]})") from error
        return self.named(layer, kind)

    def named(self, layer: Any, kind: str) -> Any:
        """A layer that was just made, named after the node.

        Raises:
            ModelError: TensorRT made none.
        """
        if layer is None:
            raise self.refuse(f"TensorRT refuses the layer {kind!r}")
        layer.name = self.name if not self._count else f"{self.name} #{self._count + 1}"
        if hasattr(layer, "metadata"):
            layer.metadata = f"[ONNX Layer: {self.name}]"
        self._count += 1
        return layer

    def out(self, kind: str, *args: Any, **kwargs: Any) -> Tensor:
        """The first output of ``add(kind, ...)``."""
        return self.add(kind, *args, **kwargs).get_output(0)

    def refuse(
        self, why: str, fix: str = "exclude the node, or take the route through TensorRT's parser"
    ) -> ModelError:
        """The error, for ``raise``, that this node cannot be lowered."""
        return ModelError(why, where=f"node {self.name!r}", fix=fix)

    def weights(self, array: np.ndarray | None) -> Any:
        """An array as ``Weights``, held alive; none for None (the empty weights that layers take for "no bias")."""
        if array is None:
            return self.trt.Weights()
        view, data = weights(self.trt, array, f"node {self.name!r}")
        self._held.append(data)
        return view

    @property
    def index_type(self) -> Any:
        """TensorRT's type of shapes and positions."""
        return index_type(self.trt)

    def as_index(self, tensor: Tensor) -> Tensor:
        """Integers as the type of shapes and positions."""
        return self.cast(tensor, self.index_type)

    # -- constants ----------------------------------------------------------------------------------------------

    def constant_tensor(self, array: np.ndarray) -> Tensor:
        """A constant of the array's shape and type."""
        return self.out("constant", array.shape, self.weights(array))

    def iota(self, size: Size, dtype: Any) -> Tensor:
        """0, 1, 2, … of shape [size], integers of a TensorRT type."""
        if isinstance(size, int):
            return self.constant_tensor(np.arange(size, dtype=onnx_type(dtype).numpy()))
        return self.linspace(size, self.scalar(0, dtype), self.constant_tensor(np.ones(1, onnx_type(dtype).numpy())))

    def linspace(self, size: Tensor, start: Tensor, step: Tensor) -> Tensor:
        """``start`` (a scalar), ``start + step`` (of shape [1]) and so on, of shape [size]."""
        layer = self.add("fill", [1], self.trt.FillOperation.LINSPACE, start.dtype)
        for index, operand in enumerate((size, start, step)):
            layer.set_input(index, operand)
        return layer.get_output(0)

    def scalar(self, number: float, dtype: Any) -> Tensor:
        """A constant of no axes."""
        return self.constant_tensor(np.array(number, onnx_type(dtype).numpy()))

    def like(self, number: float, tensor: Tensor, rank: int | None = None) -> Tensor:
        """A constant number of the type of ``tensor``, with as many axes (of size 1) as it, or ``rank`` ones."""
        shape = [1] * (len(tensor.shape) if rank is None else rank)
        return self.constant_tensor(np.full(shape, number, onnx_type(tensor.dtype).numpy()))

    def indices(self, numbers: Sequence[int]) -> Tensor:
        """Constant positions or sizes, of shape [n] and TensorRT's index type."""
        return self.constant_tensor(np.array(numbers, onnx_type(self.index_type).numpy()))

    # -- arithmetic ---------------------------------------------------------------------------------------------

    def elementwise(self, operation: str, left: Tensor, right: Tensor) -> Tensor:
        """``trt.ElementWiseOperation`` by name, such as ``SUM``; the shorter shape gets axes of 1 in front.

        Raises:
            ModelError: the types differ.
        """
        if left.dtype != right.dtype:
            raise self.refuse(
                f"its operands differ in type ({_dtype_name(left)} and {_dtype_name(right)})",
                "insert a Cast on one of them",
            )
        self._computable(left)
        left, right = self.aligned(left, right)
        return self.out("elementwise", left, right, getattr(self.trt.ElementWiseOperation, operation))

    def unary(self, operation: str, tensor: Tensor) -> Tensor:
        """``trt.UnaryOperation`` by name, such as ``EXP``."""
        return self.out("unary", self._computable(tensor), getattr(self.trt.UnaryOperation, operation))

    def activation(self, kind: str, tensor: Tensor, alpha: float | None = None, beta: float | None = None) -> Tensor:
        """``trt.ActivationType`` by name, such as ``RELU``."""
        layer = self.add("activation", self._computable(tensor), getattr(self.trt.ActivationType, kind))
        if alpha is not None:
            layer.alpha = alpha
        if beta is not None:
            layer.beta = beta
        return layer.get_output(0)

    def matmul(self, a: Tensor, b: Tensor, flip_a: bool = False, flip_b: bool = False) -> Tensor:
        """The product of matrices of equal rank, each transposed where its flag is set."""
        operation = self.trt.MatrixOperation
        flips = [operation.TRANSPOSE if flip else operation.NONE for flip in (flip_a, flip_b)]
        return self.out("matrix_multiply", a, flips[0], b, flips[1])

    def cast(self, tensor: Tensor, dtype: Any) -> Tensor:
        """``tensor`` in another TensorRT type; itself where it has that type."""
        return tensor if tensor.dtype == dtype else self.out("cast", tensor, dtype)

    def reduce(self, operation: str, tensor: Tensor, axes: Sequence[int], keep: bool = True) -> Tensor:
        """``trt.ReduceOperation`` by name over axes counted from the front; no axes: the tensor itself."""
        mask = sum(1 << axis for axis in set(axes))
        kind = getattr(self.trt.ReduceOperation, operation)
        return self.out("reduce", self._computable(tensor), kind, mask, keep) if mask else tensor

    def _computable(self, tensor: Tensor) -> Tensor:
        if not (is_float(tensor.dtype) or is_integer(tensor.dtype) or is_bool(tensor.dtype)):
            raise self.refuse(
                f"TensorRT does not compute in {_dtype_name(tensor)}", "cast its operands, or quantize it with scales"
            )
        return tensor

    def select(self, condition: Tensor, chosen: Tensor, otherwise: Tensor) -> Tensor:
        """``chosen`` where the condition holds, else ``otherwise``, broadcast."""
        return self.out("select", *self.aligned(condition, chosen, otherwise))

    # -- moving -------------------------------------------------------------------------------------------------

    def aligned(self, *tensors: Tensor) -> list[Tensor]:
        """The tensors with axes of 1 in front, so that all have the largest rank."""
        rank = max(len(tensor.shape) for tensor in tensors)
        return [self.unsqueeze(tensor, range(rank - len(tensor.shape))) for tensor in tensors]

    def reshape(self, tensor: Tensor, sizes: Sequence[Size]) -> Tensor:
        """The elements in another shape; a -1 is inferred, a 0 means an empty axis."""
        known = [size for size in sizes if isinstance(size, int)]
        layer = self.add("shuffle", tensor)
        layer.zero_is_placeholder = False
        if len(known) == len(sizes):
            layer.reshape_dims = known
        elif len(known) == len(sizes) - 1 and -1 not in known and 0 not in known:
            layer.reshape_dims = [size if isinstance(size, int) else -1 for size in sizes]
        else:
            layer.set_input(1, self.stack(sizes))
        return layer.get_output(0)

    def as_scalar(self, tensor: Tensor) -> Tensor:
        """The one element, without axes."""
        return self.reshape(tensor, []) if len(tensor.shape) else tensor

    def transpose(self, tensor: Tensor, order: Sequence[int]) -> Tensor:
        """Axes in another order: axis i of the result is axis ``order[i]`` of the tensor."""
        if list(order) == list(range(len(order))):
            return tensor
        layer = self.add("shuffle", tensor)
        layer.first_transpose = self.trt.Permutation(list(order))
        return layer.get_output(0)

    def unsqueeze(self, tensor: Tensor, axes: Sequence[int]) -> Tensor:
        """Axes of size 1 at these positions of the result."""
        if not axes:
            return tensor
        sizes = iter(self._reshapable(tensor))
        rank = len(tensor.shape) + len(axes)
        return self.reshape(tensor, [1 if axis in axes else next(sizes) for axis in range(rank)])

    def squeeze(self, tensor: Tensor, axes: Sequence[int]) -> Tensor:
        """Without these axes, each of size 1."""
        if not axes:
            return tensor
        return self.reshape(tensor, [size for axis, size in enumerate(self._reshapable(tensor)) if axis not in axes])

    def _reshapable(self, tensor: Tensor) -> Sequence[Size]:
        """Sizes for a reshape that keeps them: one open size may be inferred."""
        dims = [int(dim) for dim in tensor.shape]
        return dims if dims.count(-1) < 2 and 0 not in dims else self.sizes(tensor)

    def concatenate(self, tensors: Sequence[Tensor], axis: int) -> Tensor:
        """The tensors one behind the other; one alone is itself."""
        if len(tensors) == 1:
            return tensors[0]
        layer = self.add("concatenation", list(tensors))
        layer.axis = axis
        return layer.get_output(0)

    def gather(self, tensor: Tensor, indices: Tensor, axis: int) -> Tensor:
        """Positions of one axis, in the shape of ``indices``; none of them negative."""
        return self.out("gather", tensor, indices, axis)

    def slice(self, tensor: Tensor, starts: Sequence[Size], sizes: Sequence[Size], steps: Sequence[Size]) -> Any:
        """A slice layer, whose mode may still be set: ``sizes`` elements of each axis from ``starts``, by ``steps``."""
        operands = (starts, sizes, steps)
        known = [[size if isinstance(size, int) else 0 for size in operand] for operand in operands]
        layer = self.add("slice", tensor, *known)
        for index, operand in enumerate(operands, start=1):
            if not all(isinstance(size, int) for size in operand):
                layer.set_input(index, self.stack(operand))
        return layer

    def expand(self, tensor: Tensor, sizes: Sequence[Size]) -> Tensor:
        """Broadcast to a shape of at least as many axes; each axis has that size already, or size 1."""
        tensor = self.unsqueeze(tensor, range(len(sizes) - len(tensor.shape)))
        own = list(tensor.shape)
        if list(sizes) == own:
            return tensor
        steps = [self._step(dim, size, axis, tensor) for axis, (dim, size) in enumerate(zip(own, sizes, strict=True))]
        return self.slice(tensor, [0] * len(own), list(sizes), steps).get_output(0)

    def _step(self, own: int, wanted: Size, axis: int, tensor: Tensor) -> Size:
        """0 for an axis of size 1, which repeats its element, else 1."""
        if own >= 0:
            return int(own != 1)
        if isinstance(wanted, int) and wanted == 1:
            return 1
        return self.calculate("MIN", self.calculate("SUB", self.sizes(tensor)[axis], 1), 1)

    # -- shapes -------------------------------------------------------------------------------------------------

    def shape_tensor(self, tensor: Tensor) -> Tensor:
        """The shape as a tensor of [rank] integers of TensorRT's index type."""
        return self.out("shape", tensor)

    def sizes(self, tensor: Tensor) -> list[Size]:
        """The size of each axis."""
        dims = list(tensor.shape)
        if -1 not in dims:
            return [int(dim) for dim in dims]
        shape = self.shape_tensor(tensor)
        return [int(dim) if dim >= 0 else self.entry(shape, axis) for axis, dim in enumerate(dims)]

    def as_operand(self, size: Size, tensor: Tensor) -> Tensor:
        """A size as a number that can meet ``tensor``: of its type, and of as many axes."""
        if isinstance(size, int):
            return self.like(size, tensor)
        return self.reshape(self.cast(size, tensor.dtype), [1] * len(tensor.shape))

    def entry(self, vector: Tensor, index: int) -> Tensor:
        """One element of a vector, as a vector of shape [1]."""
        return self.out("slice", vector, [index], [1], [1])

    def stack(self, sizes: Sequence[Size]) -> Tensor:
        """Sizes as one vector of TensorRT's index type; neighbors that are known become one constant."""
        parts: list[Tensor] = []
        run: list[int] = []
        for size in [*sizes, None]:
            if isinstance(size, int):
                run.append(size)
                continue
            if run:
                parts.append(self.indices(run))
                run = []
            if size is not None:
                parts.append(size)
        return self.concatenate(parts, 0) if parts else self.indices([])

    def calculate(self, operation: str, left: Size, right: Size) -> Size:
        """``SUM``, ``SUB``, ``PROD``, ``FLOOR_DIV``, ``MAX`` or ``MIN`` of sizes; known ones give a known one."""
        if isinstance(left, int) and isinstance(right, int):
            return _ARITHMETIC[operation](left, right)
        return self.elementwise(
            operation, *(self.indices([size]) if isinstance(size, int) else size for size in (left, right))
        )

    def product(self, sizes: Sequence[Size]) -> Size:
        """The product of sizes, 1 for none."""
        total: Size = 1
        for size in sizes:
            total = size if isinstance(total, int) and total == 1 else self.calculate("PROD", total, size)
        return total


_ARITHMETIC: dict[str, Callable[[int, int], int]] = {
    "SUM": operator.add,
    "SUB": operator.sub,
    "PROD": operator.mul,
    "FLOOR_DIV": operator.floordiv,
    "MAX": max,
    "MIN": min,
}


def _dtype_name(tensor: Tensor) -> str:
    return onnx_type(tensor.dtype).name.lower()
