"""Models of one node or a few, and what differs between two results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.shape_inference
import pytest
from onnx import helper, numpy_helper

from graphpress.ir import Model, from_proto

Arrays = Mapping[str, np.ndarray]
TOLERANCE = {1: (2e-2, 2e-2), 2: (2e-2, 2e-2), 4: (1e-3, 1e-4), 8: (0.0, 0.0)}
"""Relative and absolute, by bytes of the element."""


def differences(got: Sequence[np.ndarray], expected: Sequence[Any]) -> str:
    """What differs, "" where nothing does."""
    for one, other in zip(got, map(np.asarray, expected), strict=True):
        if one.shape != other.shape or one.dtype != other.dtype:
            return f"{one.dtype}{one.shape} instead of {other.dtype}{other.shape}"
        rtol, atol = TOLERANCE[one.dtype.itemsize]
        close = np.isclose(one.astype(np.float64), other.astype(np.float64), rtol, atol, equal_nan=True)
        if not close.all():
            return f"{np.count_nonzero(~close)} of {close.size} numbers differ"
    return ""


@pytest.fixture
def one_node() -> Callable[..., onnx.ModelProto]:
    """Makes a model of one node.

    ``inputs`` and ``constants`` are arrays by name, in the order of the operands; "" stands for an absent one. The axes
    named in ``open_axes`` of the first input are open.
    """

    def make(
        op_type: str, inputs: Arrays, constants: Arrays | None = None, *, opset: int = 22, outputs: int = 1,
        order: Sequence[str] = (), open_axes: Sequence[int] = (), **attributes: Any,
    ) -> onnx.ModelProto:  # fmt: skip
        constants = constants or {}
        given = []
        for name, array in inputs.items():
            dims: list[int | str] = list(array.shape)
            for axis in open_axes if not given else ():
                dims[axis] = f"d{axis}"
            given.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), dims))
        results = [f"result_{index}" for index in range(outputs)]
        node = helper.make_node(op_type, list(order) or [*inputs, *constants], results, "the node", **attributes)
        initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
        unknown = [onnx.ValueInfoProto(name=name) for name in results]
        graph = helper.make_graph([node], "graph", given, unknown, initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
        return onnx.shape_inference.infer_shapes(model)

    return make


@pytest.fixture(scope="session")
def make() -> Callable[..., Model]:
    """Makes a model of several nodes.

    ``inputs`` are types and dimensions by name; outputs declare nothing but their names.
    """

    def build(
        nodes: Sequence[onnx.NodeProto], inputs: Mapping[str, tuple[str, Sequence[int | str]]], outputs: Sequence[str],
        constants: Arrays | None = None, *, opset: int = 21,
    ) -> Model:  # fmt: skip
        types = onnx.TensorProto.DataType
        given = [helper.make_tensor_value_info(name, types.Value(kind), dims) for name, (kind, dims) in inputs.items()]
        initializers = [numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()]
        unknown = [onnx.ValueInfoProto(name=name) for name in outputs]
        graph = helper.make_graph(nodes, "graph", given, unknown, initializers)
        return from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10))

    return build
