"""What a network of TensorRT computes, in numpy, layer by layer, from what NVIDIA's API reference says of each layer.

It reads a network as TensorRT holds it and knows nothing of the rules that made it. It says nothing of NVIDIA's
kernels; it says whether the layers that the rules make add up to what ONNX says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphpress.backends.tensorrt.network.types import onnx_type


def erf(x: np.ndarray) -> np.ndarray:
    return np.vectorize(math.erf, otypes=[np.float64])(x)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


UNARY = {
    "EXP": np.exp, "LOG": np.log, "SQRT": np.sqrt, "RECIP": lambda x: 1 / x, "ABS": np.abs, "NEG": np.negative,
    "SIN": np.sin, "COS": np.cos, "TAN": np.tan, "SINH": np.sinh, "COSH": np.cosh, "ASIN": np.arcsin,
    "ACOS": np.arccos, "ATAN": np.arctan, "ASINH": np.arcsinh, "ACOSH": np.arccosh, "ATANH": np.arctanh,
    "CEIL": np.ceil, "FLOOR": np.floor, "ERF": erf, "NOT": np.logical_not, "SIGN": np.sign, "ROUND": np.round,
    "ISINF": np.isinf, "ISNAN": np.isnan,
}  # fmt: skip
ACTIVATION = {
    "RELU": lambda x, a, b: np.maximum(x, 0),
    "SIGMOID": lambda x, a, b: sigmoid(x),
    "TANH": lambda x, a, b: np.tanh(x),
    "LEAKY_RELU": lambda x, a, b: np.where(x >= 0, x, a * x),
    "ELU": lambda x, a, b: np.where(x >= 0, x, a * (np.exp(x) - 1)),
    "SELU": lambda x, a, b: b * np.where(x > 0, x, a * np.exp(x) - a),
    "SOFTSIGN": lambda x, a, b: x / (1 + np.abs(x)),
    "SOFTPLUS": lambda x, a, b: a * np.log(np.exp(b * x) + 1),
    "CLIP": lambda x, a, b: np.maximum(a, np.minimum(b, x)),
    "HARD_SIGMOID": lambda x, a, b: np.maximum(0, np.minimum(1, a * x + b)),
    "SCALED_TANH": lambda x, a, b: a * np.tanh(b * x),
    "THRESHOLDED_RELU": lambda x, a, b: np.where(x > a, x, 0),
    "GELU_ERF": lambda x, a, b: 0.5 * x * (1 + erf(x / math.sqrt(2))),
    "GELU_TANH": lambda x, a, b: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
}
ELEMENTWISE = {
    "SUM": np.add, "PROD": np.multiply, "MAX": np.maximum, "MIN": np.minimum, "SUB": np.subtract, "POW": np.power,
    "DIV": lambda x, y: np.trunc(x / y) if x.dtype.kind == "i" else x / y, "FLOOR_DIV": np.floor_divide,
    "AND": np.logical_and, "OR": np.logical_or, "XOR": np.logical_xor, "EQUAL": np.equal, "GREATER": np.greater,
    "LESS": np.less,
}  # fmt: skip
REDUCE = {"SUM": np.sum, "PROD": np.prod, "MAX": np.max, "MIN": np.min, "AVG": np.mean}
INTERFACES = {
    "CONDITIONAL_INPUT": "IfConditionalInput",
    "CONDITIONAL_OUTPUT": "IfConditionalOutput",
    "ELEMENTWISE": "ElementWise",
    "LRN": "LRN",
    "NMS": "NMS",
    "PARAMETRIC_RELU": "ParametricReLU",
    "SOFTMAX": "SoftMax",
    "TOPK": "TopK",
}
"""Names of the layers' classes that are not their kinds in capitals."""
LOOP = ("TRIP_LIMIT", "RECURRENCE", "ITERATOR", "LOOP_OUTPUT")


@dataclass(frozen=True)
class Step:
    """A layer with the attributes of its kind."""

    kind: str
    layer: Any


class Simulator:
    """Runs a network."""

    def __init__(self, trt: Any, network: Any, kernels: Mapping[str, Callable[..., Any]]) -> None:
        self.trt, self.network, self.kernels = trt, network, kernels
        layers = [network.get_layer(index) for index in range(network.num_layers)]
        steps = [_typed(trt, layer) for layer in layers]
        self.steps = steps
        self.makers = {
            step.layer.get_output(index).name: step for step in steps for index in range(step.layer.num_outputs)
        }
        self.loops: dict[str, list[Step]] = {}
        for step in steps:
            if step.kind in LOOP:
                self.loops.setdefault(step.layer.loop.name, []).append(step)
        self.values: dict[str, np.ndarray] = {}

    def run(self, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs for these inputs; types and known dimensions of every tensor are checked on the way."""
        self.values = {}
        for index in range(self.network.num_inputs):
            tensor = self.network.get_input(index)
            self._write(tensor, feed[tensor.name])
        outputs = [self.network.get_output(index) for index in range(self.network.num_outputs)]
        with np.errstate(all="ignore"):
            return {tensor.name: self._value(tensor) for tensor in outputs}

    def _value(self, tensor: Any) -> np.ndarray | None:
        """What a tensor holds, computed where it is not yet known."""
        if tensor is None:
            return None
        if tensor.name not in self.values:
            self._compute(self.makers[tensor.name])
        return self.values[tensor.name]

    def _compute(self, step: Step) -> None:
        if step.kind == "LOOP_OUTPUT":
            self._run_loop(self.loops[step.layer.loop.name])
            return
        layer = step.layer
        arrays = [self._value(layer.get_input(index)) for index in range(layer.num_inputs)]
        if step.kind in self.kernels:
            results = self.kernels[step.kind](self.trt, layer, *arrays)
        else:
            results = getattr(self, f"_{step.kind.lower()}")(layer, *arrays)
        for index, result in enumerate(results if isinstance(results, (list, tuple)) else [results]):
            self._write(layer.get_output(index), result)

    def _run_loop(self, steps: list[Step]) -> None:
        """All results of a loop; what does not depend on the iteration is computed again in each."""
        around, of = self.values, {kind: [step.layer for step in steps if step.kind == kind] for kind in LOOP}
        count = next((int(self._value(one.get_input(0))) for one in of["TRIP_LIMIT"] if one.kind.name == "COUNT"), None)
        states = [self._value(one.get_input(0)) for one in of["RECURRENCE"]]
        scanned = [np.moveaxis(self._value(one.get_input(0)), one.axis, 0) for one in of["ITERATOR"]]
        gathered = [one for one in of["LOOP_OUTPUT"] if one.kind.name != "LAST_VALUE"]
        rows: list[list[np.ndarray]] = [[] for _ in gathered]
        iteration = 0
        while count is None or iteration < count:
            self.values = dict(around)
            for layer, state in zip(of["RECURRENCE"], states, strict=True):
                self._write(layer.get_output(0), state)
            if not all(self._value(one.get_input(0)) for one in of["TRIP_LIMIT"] if one.kind.name == "WHILE"):
                break
            for layer, array in zip(of["ITERATOR"], scanned, strict=True):
                self._write(layer.get_output(0), array[-1 - iteration if layer.reverse else iteration])
            for row, layer in zip(rows, gathered, strict=True):
                row.append(self._value(layer.get_input(0)))
            states = [self._value(one.get_input(1)) for one in of["RECURRENCE"]]
            iteration += 1
        self.values = around
        last = {one.get_output(0).name: state for one, state in zip(of["RECURRENCE"], states, strict=True)}
        for layer in of["LOOP_OUTPUT"]:
            if layer.kind.name == "LAST_VALUE":
                self._write(layer.get_output(0), last[layer.get_input(0).name])
        for row, layer in zip(rows, gathered, strict=True):
            assert int(self._value(layer.get_input(1))) == len(row)
            ordered = row if layer.kind.name == "CONCATENATE" else row[::-1]
            self._write(layer.get_output(0), np.stack(ordered, layer.axis))

    def _write(self, tensor: Any, result: Any) -> None:
        array = np.asarray(result).astype(onnx_type(tensor.dtype).numpy())
        dims = tuple(tensor.shape)
        assert len(dims) == array.ndim, f"{tensor.name}: {dims} {array.shape}"
        assert all(dim in (-1, size) for dim, size in zip(dims, array.shape, strict=True)), (
            f"{tensor.name}: {dims} {array.shape}"
        )
        self.values[tensor.name] = array

    # -- element by element -------------------------------------------------------------------------------------

    def _constant(self, layer: Any) -> np.ndarray:
        weights = layer.weights
        if not isinstance(weights, np.ndarray):
            raise NotImplementedError("a constant that numpy has no type for")
        return weights.reshape(tuple(layer.shape))

    def _identity(self, layer: Any, x: np.ndarray) -> np.ndarray:
        return x

    def _cast(self, layer: Any, x: np.ndarray) -> np.ndarray:
        return x

    def _unary(self, layer: Any, x: np.ndarray) -> np.ndarray:
        return UNARY[layer.op.name](x)

    def _activation(self, layer: Any, x: np.ndarray) -> np.ndarray:
        return ACTIVATION[layer.type.name](x.astype(np.float64), layer.alpha, layer.beta)

    def _elementwise(self, layer: Any, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        assert x.ndim == y.ndim
        assert x.dtype == y.dtype
        return ELEMENTWISE[layer.op.name](x, y)

    def _select(self, layer: Any, condition: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.where(condition, x, y)

    def _parametric_relu(self, layer: Any, x: np.ndarray, slope: np.ndarray) -> np.ndarray:
        return np.where(x < 0, x * slope, x)

    # -- moving -------------------------------------------------------------------------------------------------

    def _shuffle(self, layer: Any, x: np.ndarray, shape: np.ndarray | None = None) -> np.ndarray:
        x = x.transpose(list(layer.first_transpose)[: x.ndim])
        dims = layer.reshape_dims if shape is None else shape
        if dims is not None:
            own = x.shape
            placeholder = layer.zero_is_placeholder
            x = x.reshape([own[i] if dim == 0 and placeholder else int(dim) for i, dim in enumerate(dims)])
        return x.transpose(list(layer.second_transpose)[: x.ndim])

    def _concatenation(self, layer: Any, *tensors: np.ndarray) -> np.ndarray:
        return np.concatenate(tensors, layer.axis)

    def _shape(self, layer: Any, x: np.ndarray) -> np.ndarray:
        return np.array(x.shape)

    def _slice(self, layer: Any, x: np.ndarray, *operands: np.ndarray | None) -> np.ndarray:
        given = [*operands, None, None, None, None][:4]
        static = (layer.start, layer.shape, layer.stride)
        start, shape, stride = (np.array(static[i] if given[i] is None else given[i], int) for i in range(3))
        mode, grid, outside = layer.mode.name, [], []
        for axis, size in enumerate(x.shape):
            places = start[axis] + np.arange(shape[axis]) * stride[axis]
            outside.append((places < 0) | (places >= size))
            if mode == "STRICT_BOUNDS":
                assert not outside[-1].any()
            grid.append(_inside(places, size, mode))
        if mode != "FILL":
            return x[np.ix_(*grid)] if x.ndim else x
        filled = np.zeros((), x.dtype) if given[3] is None else given[3]
        mask = np.zeros(tuple(shape), bool)
        for axis, out in enumerate(outside):
            mask |= out.reshape([-1 if one == axis else 1 for one in range(x.ndim)])
        return np.where(mask, filled, x[np.ix_(*grid)] if x.size else filled)

    def _fill(self, layer: Any, size: np.ndarray, start: np.ndarray, step: np.ndarray) -> np.ndarray:
        assert layer.operation.name == "LINSPACE"
        assert start.ndim == 0
        assert step.shape == size.shape == (1,)
        return start + np.arange(int(size[0])) * step[0]

    def _reverse_sequence(self, layer: Any, x: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        moved = np.moveaxis(x.copy(), (layer.batch_axis, layer.sequence_axis), (0, 1))
        for row, length in zip(moved, lengths, strict=True):
            row[:length] = row[:length][::-1].copy()
        return np.moveaxis(moved, (0, 1), (layer.batch_axis, layer.sequence_axis))

    # -- picking ------------------------------------------------------------------------------------------------

    def _gather(self, layer: Any, x: np.ndarray, places: np.ndarray) -> np.ndarray:
        assert not (places < 0).any()
        if layer.mode.name == "DEFAULT":
            return np.take(x, places, layer.axis)
        if layer.mode.name == "ELEMENT":
            return np.take_along_axis(_corner(x, places.shape, layer.axis), places, layer.axis)
        batch = layer.num_elementwise_dims
        result = np.empty(places.shape[:-1] + x.shape[batch + places.shape[-1] :], x.dtype)
        for where in np.ndindex(places.shape[:-1]):
            result[where] = x[where[:batch] + tuple(places[where])]
        return result

    def _scatter(self, layer: Any, x: np.ndarray, places: np.ndarray, updates: np.ndarray) -> np.ndarray:
        assert not (places < 0).any()
        result = x.copy()
        if layer.mode.name == "ND":
            for where in np.ndindex(places.shape[:-1]):
                result[tuple(places[where])] = updates[where]
            return result
        for where in np.ndindex(places.shape):
            result[(*where[: layer.axis], places[where], *where[layer.axis + 1 :])] = updates[where]
        return result

    def _one_hot(self, layer: Any, indices: np.ndarray, values: np.ndarray, depth: np.ndarray) -> np.ndarray:
        assert depth.ndim == 0
        axis = layer.axis % (indices.ndim + 1)
        ramp = np.arange(int(depth)).reshape([-1 if one == axis else 1 for one in range(indices.ndim + 1)])
        return np.where(np.expand_dims(indices, axis) == ramp, values[1], values[0])

    def _non_zero(self, layer: Any, x: np.ndarray) -> np.ndarray:
        return np.array(np.nonzero(x))

    def _topk(self, layer: Any, x: np.ndarray, count: np.ndarray | None = None) -> list[np.ndarray]:
        assert x.ndim > 1
        axis = layer.axes.bit_length() - 1
        keys = x.astype(np.float64)
        order = np.argsort(-keys if layer.op.name == "MAX" else keys, axis=axis, kind="stable")
        order = order.take(range(layer.k if count is None else int(count)), axis)
        return [np.take_along_axis(x, order, axis), order]

    def _reduce(self, layer: Any, x: np.ndarray) -> np.ndarray:
        axes = tuple(axis for axis in range(x.ndim) if layer.axes >> axis & 1)
        kind = layer.op.name
        x = x if x.dtype.kind == "i" else x.astype(np.float32)
        low, high = (-np.inf, np.inf) if x.dtype.kind == "f" else (np.iinfo(x.dtype).min, np.iinfo(x.dtype).max)
        empty = {"MAX": {"initial": low}, "MIN": {"initial": high}}.get(kind, {}) if not x.size else {}
        return REDUCE[kind](x, axis=axes, keepdims=layer.keep_dims, **empty)

    def _cumulative(self, layer: Any, x: np.ndarray, axis: np.ndarray) -> np.ndarray:
        x = np.flip(x, int(axis)) if layer.reverse else x
        result = np.cumsum(x, int(axis), dtype=x.dtype)
        result = result - x if layer.exclusive else result
        return np.flip(result, int(axis)) if layer.reverse else result

    # -- control ------------------------------------------------------------------------------------------------

    def _condition(self, layer: Any, condition: np.ndarray) -> list[np.ndarray]:
        assert condition.ndim == 0
        return []

    def _conditional_input(self, layer: Any, x: np.ndarray) -> np.ndarray:
        return x

    def _conditional_output(self, layer: Any, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        conditions = [step.layer for step in self.steps if step.kind == "CONDITION"]
        mine = next(each for each in conditions if each.conditional.name == layer.conditional.name)
        return one if self._value(mine.get_input(0)) else other


def _typed(trt: Any, layer: Any) -> Step:
    kind = str(layer.type).removeprefix("LayerType.")
    name = INTERFACES.get(kind) or "".join(word.capitalize() for word in kind.split("_"))
    if hasattr(trt, f"I{name}Layer"):
        layer.__class__ = getattr(trt, f"I{name}Layer")
    return Step(kind, layer)


def _inside(places: np.ndarray, size: int, mode: str) -> np.ndarray:
    """Where each place reads from."""
    if mode == "WRAP":
        return places % size if size else places
    if mode == "REFLECT" and size > 1:
        folded = places % (2 * size - 2)
        return np.minimum(folded, 2 * size - 2 - folded)
    return np.clip(places, 0, max(size - 1, 0))


def _corner(x: np.ndarray, shape: tuple[int, ...], axis: int) -> np.ndarray:
    """The part of ``x`` of that shape, whole along ``axis``."""
    return x[tuple(slice(None) if one == axis else slice(size) for one, size in enumerate(shape))]
