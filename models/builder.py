"""Writes ONNX graphs node by node, with the names and forms that exporters use.

Values are plain names. Parameters are drawn from one seeded generator in the order in which they are asked for, so
the same arguments always give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from graphpress.errors import UsageError
from graphpress.ir import Model, from_proto

Dims = Sequence[int | str | None]

FIRST_OPSET = 13
"""From here on Squeeze, Unsqueeze and Split take their numbers as inputs."""

HE_GAIN = 2.0
"""Variance gain that keeps the second moment of activations constant through a ReLU (He et al. 2015)."""
LINEAR_GAIN = 1.0
RESIDUAL_GAIN = 0.2
"""For the last layer of a residual branch: the sum over many blocks then stays near its input's scale."""


@dataclass(frozen=True)
class Conv:
    """A square convolution with "same" padding; ``channels`` is (in, out), ``gain`` that of ``Builder.weight``."""

    channels: tuple[int, int]
    kernel: int = 3
    stride: int = 1
    groups: int = 1
    bias: bool = False
    gain: float = HE_GAIN

    @property
    def window(self) -> tuple[int, int]:
        """Kernel height and width."""
        return self.kernel, self.kernel


class Builder:
    """One graph under construction.

    Args:
        name: the graph's name.
        opset: version of the standard operator set, 13 or later.
        seed: of the generator that draws parameters.
        weights: parameters to use in place of drawn ones, by full name (a trained state).
        prefix: the outermost scope, so that the names of a subgraph differ from those of the graph around it.

    Raises:
        UsageError: the operator set is too old.
    """

    def __init__(
        self,
        name: str,
        *,
        opset: int = 17,
        seed: int = 0,
        weights: Mapping[str, np.ndarray] | None = None,
        prefix: str | None = None,
    ) -> None:
        if opset < FIRST_OPSET:
            raise UsageError(f"operator set {opset} is too old", where="opset", fix=f"take {FIRST_OPSET} or later")
        self.name, self.opset = name, opset
        self.random = np.random.default_rng(seed)
        self._weights = weights
        self._scopes: list[str] = [] if prefix is None else [prefix]
        self._names: dict[str, int] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._nodes: list[onnx.NodeProto] = []

    @property
    def count(self) -> int:
        """Nodes so far, those of subgraphs not counted."""
        return len(self._nodes)

    # -- the graph ------------------------------------------------------------------------------------

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Put what is added inside under ``name``: nodes ``/name/Op``, parameters ``name.weight``."""
        self._scopes.append(name)
        yield
        self._scopes.pop()

    def input(self, name: str, dims: Dims, dtype: type[np.generic] = np.float32) -> str:
        """Declare a graph input; a string is a symbolic dimension."""
        self._inputs.append(_declare(name, dims, dtype))
        return self._unique(name)

    def output(self, value: str, name: str, dims: Dims, dtype: type[np.generic] = np.float32) -> None:
        """Declare ``value``, the result of a node, a graph output under the public name ``name``.

        The value must not be read inside a subgraph, where its readers would keep the old name.
        """
        producer = next(node for node in reversed(self._nodes) if value in node.output)
        producer.output[list(producer.output).index(value)] = name
        for node in self._nodes:
            node.input[:] = [name if read == value else read for read in node.input]
        self._outputs.append(_declare(name, dims, dtype))

    def node(self, op_type: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output, whose name is returned; ``""`` is an absent input."""
        return self.nodes(op_type, *inputs, outputs=1, domain=domain, **attributes)[0]

    def nodes(self, op_type: str, *inputs: str, outputs: int, domain: str = "", **attributes: Any) -> tuple[str, ...]:
        """Add a node with several outputs; attributes that are None are left out.

        Raises:
            UsageError: a standard operator that this operator set does not have.
        """
        if not domain and not onnx.defs.has(op_type, self.opset):
            raise UsageError(f"{op_type} is not in operator set {self.opset}", where="opset", fix="take a later one")
        name = self._unique("/" + "/".join([*self._scopes, op_type]).replace(".", "/"))
        results = tuple(f"{name}_output_{index}" for index in range(outputs))
        given = {key: value for key, value in attributes.items() if value is not None}
        self._nodes.append(helper.make_node(op_type, inputs, results, name=name, domain=domain, **given))
        return results

    def constant(self, array: np.ndarray | Sequence[int] | int, name: str = "constant") -> str:
        """Add an initializer with these contents (Python integers become int64)."""
        full = self._unique(".".join([*self._scopes, name]))
        self._initializers.append(numpy_helper.from_array(np.asarray(array), full))
        return full

    def parameter(self, name: str, drawn: np.ndarray) -> str:
        """Add a parameter: the trained one of this full name where there is one, else ``drawn``."""
        full = ".".join([*self._scopes, name])
        array = drawn if self._weights is None else self._weights[full]
        return self.constant(array.astype(np.float32), name)

    def weight(self, shape: Sequence[int], fan_in: int, gain: float = HE_GAIN, name: str = "weight") -> str:
        """Add a normally distributed parameter of variance ``gain / fan_in``."""
        return self.parameter(name, self.random.standard_normal(shape, np.float32) * np.float32(np.sqrt(gain / fan_in)))

    def small(self, size: int, name: str = "bias") -> str:
        """Add a bias-like parameter of standard deviation 0.05."""
        return self.parameter(name, self.random.standard_normal(size, np.float32) * np.float32(0.05))

    def near_one(self, size: int, name: str = "weight") -> str:
        """Add a scale-like parameter, uniform in 0.9 to 1.1."""
        return self.parameter(name, self.random.uniform(0.9, 1.1, size))

    def graph(self) -> onnx.GraphProto:
        """The graph as it stands, for use as the body of a control-flow node."""
        return helper.make_graph(self._nodes, self.name, self._inputs, self._outputs, self._initializers)

    def finish(
        self, *, functions: Sequence[onnx.FunctionProto] = (), domains: Mapping[str, int] | None = None
    ) -> Model:
        """The finished model; shapes of intermediate values are inferred and stored, as exporters do.

        Args:
            functions: model-local functions.
            domains: version of each operator set beyond the standard one.
        """
        imports = [
            helper.make_opsetid(domain, version) for domain, version in {"": self.opset, **(domains or {})}.items()
        ]
        proto = helper.make_model(
            self.graph(),
            opset_imports=imports,
            functions=functions,
            producer_name="graphpress.models",
            ir_version=_ir_version(self.opset),
        )
        return from_proto(onnx.shape_inference.infer_shapes(proto), where=self.name)

    def _unique(self, stem: str) -> str:
        count = self._names.get(stem, 0)
        self._names[stem] = count + 1
        return f"{stem}_{count}" if count else stem

    # -- shapes, written as exporters do ------------------------------------------------------------------

    def literal(self, array: np.ndarray | Sequence[int] | float) -> str:
        """Add a Constant node: Python floats become float32, integers int64."""
        contents = np.asarray(array, np.float32) if isinstance(array, float) else np.asarray(array)
        return self.node("Constant", value=numpy_helper.from_array(contents))

    def size(self, x: str, axis: int) -> str:
        """The size of one axis at run time, as int64 of shape (1,)."""
        picked = self.node("Gather", self.node("Shape", x), self.literal(np.array(axis)), axis=0)
        return self.node("Unsqueeze", picked, self.literal([0]))

    def sizes(self, dims: Sequence[int | str]) -> str:
        """A shape of known sizes and of values that ``size`` gave, as int64 of shape (rank,)."""
        known = [dim for dim in dims if not isinstance(dim, str)]
        if len(known) == len(dims):
            return self.literal(known)
        return self.node("Concat", *(dim if isinstance(dim, str) else self.literal([dim]) for dim in dims), axis=0)

    def reshape(self, x: str, dims: Sequence[int | str]) -> str:
        """Reshape to known sizes and values that ``size`` gave."""
        return self.node("Reshape", x, self.sizes(dims))

    def slice(self, x: str, start: int | str, stop: int | str, axis: int) -> str:
        """The positions ``start`` to ``stop`` of one axis; either may be a value of shape (1,)."""
        first, last = (bound if isinstance(bound, str) else self.literal([bound]) for bound in (start, stop))
        return self.node("Slice", x, first, last, self.literal([axis]))

    def split(self, x: str, sizes: Sequence[int], axis: int) -> tuple[str, ...]:
        """Split one axis into parts of these sizes."""
        return self.nodes("Split", x, self.literal(sizes), outputs=len(sizes), axis=axis)

    def mean(self, x: str, axes: Sequence[int]) -> str:
        """ReduceMean that keeps the axes; they are an attribute before opset 18 and an input from there on."""
        if self.opset < 18:
            return self.node("ReduceMean", x, axes=list(axes), keepdims=1)
        return self.node("ReduceMean", x, self.literal(list(axes)), keepdims=1)

    # -- layers ---------------------------------------------------------------------------------------

    def conv(self, x: str, spec: Conv) -> str:
        """Convolution over N, C, H, W."""
        inner = spec.channels[0] // spec.groups
        weight = self.weight((spec.channels[1], inner, *spec.window), inner * spec.kernel**2, spec.gain)
        return self.node(
            "Conv",
            *([x, weight, self.small(spec.channels[1])] if spec.bias else [x, weight]),
            dilations=[1, 1],
            group=spec.groups,
            kernel_shape=spec.window,
            pads=[spec.kernel // 2] * 4,
            strides=[spec.stride] * 2,
        )

    def upsample_conv(self, x: str, channels: tuple[int, int]) -> str:
        """ConvTranspose of kernel and stride 2: H and W double."""
        weight = self.weight((*channels, 2, 2), channels[0], LINEAR_GAIN)
        return self.node("ConvTranspose", x, weight, self.small(channels[1]), kernel_shape=[2, 2], strides=[2, 2])

    def batch_norm(self, x: str, channels: int) -> str:
        """BatchNormalization with running statistics, in its inference form."""
        scale, shift = self.near_one(channels), self.small(channels)
        mean, variance = self.small(channels, "running_mean"), self.near_one(channels, "running_var")
        return self.node("BatchNormalization", x, scale, shift, mean, variance, epsilon=1e-5)

    def conv_norm(self, name: str, x: str, spec: Conv, *, norm: bool = True) -> str:
        """Convolution and batch normalization, or one convolution with a bias where ``norm`` is false."""
        with self.scope(f"{name}.conv"):
            x = self.conv(x, spec if norm else replace(spec, bias=True))
        if not norm:
            return x
        with self.scope(f"{name}.norm"):
            return self.batch_norm(x, spec.channels[1])

    def linear(self, x: str, features: tuple[int, int], gain: float = LINEAR_GAIN) -> str:
        """Gemm over N, F as exporters write ``torch.nn.Linear``: the weight is (out, in)."""
        weight = self.weight((features[1], features[0]), features[0], gain)
        return self.node("Gemm", x, weight, self.small(features[1]), alpha=1.0, beta=1.0, transB=1)

    def projection(self, x: str, features: tuple[int, int], gain: float = LINEAR_GAIN, *, bias: bool = True) -> str:
        """MatMul and Add on the last axis, as exporters write ``torch.nn.Linear`` on rank 3 and more."""
        product = self.node("MatMul", x, self.weight(features, features[0], gain))
        return self.node("Add", self.small(features[1]), product) if bias else product

    def pool(self, op_type: str, x: str, kernel: int, stride: int) -> str:
        """MaxPool or AveragePool with a square window; an odd one is padded to keep the size at stride 1."""
        pads = [kernel // 2 if kernel % 2 else 0] * 4
        return self.node(op_type, x, kernel_shape=[kernel] * 2, pads=pads, strides=[stride] * 2)

    def classifier(self, x: str, channels: int, classes: int) -> str:
        """Global average pool, flatten, linear: the usual end of an image classifier."""
        pooled = self.node("Flatten", self.node("GlobalAveragePool", x), axis=1)
        return self.linear(pooled, (channels, classes))


def _ir_version(opset: int) -> int:
    """The lowest IR version that goes with an operator set and knows functions; 10 from operator set 21 on."""
    return 8 if opset <= 18 else 9 if opset <= 20 else 10


def _declare(name: str, dims: Dims, dtype: type[np.generic]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), dims)
