"""Tiny networks for the linter, written node by node, and NVIDIA's own verdict on them where that can be had."""

import importlib.util
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from graphpress.backends.tensorrt.build import BuildRequest, build
from graphpress.backends.tensorrt.engine_layers import types_of_nodes
from graphpress.backends.tensorrt.lint.check import MATERIALIZED
from graphpress.backends.tensorrt.lint.device import Device
from graphpress.backends.tensorrt.lint.products import integer_findings
from graphpress.ir import from_proto
from graphpress.lint import findings, refusals

NARROW = {
    TensorProto.BFLOAT16: ml_dtypes.bfloat16,
    TensorProto.FLOAT8E4M3FN: ml_dtypes.float8_e4m3fn,
    TensorProto.FLOAT8E5M2: ml_dtypes.float8_e5m2,
}
HALF = TensorProto.FLOAT16


class Net:
    """A graph in the making; methods return the names of values."""

    def __init__(self, shape=(1, 32, 16, 16), *, opset=19, dtype=HALF, domains=()):
        self.nodes, self.constants, self.outputs = [], [], []
        self.inputs = [helper.make_tensor_value_info("x", dtype, shape)]
        self.dtype = dtype
        self.imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]

    def input(self, name, shape, dtype=None):
        self.inputs.append(helper.make_tensor_value_info(name, dtype or self.dtype, shape))
        return name

    def constant(self, array, dtype=None):
        array, dtype = np.asarray(array), dtype or self.dtype
        name = f"c{len(self.constants)}"
        if dtype in NARROW:
            raw = array.astype(NARROW[dtype]).tobytes()
            tensor = helper.make_tensor(name, dtype, array.shape, raw, raw=True)
        else:
            tensor = helper.make_tensor(name, dtype, array.shape, array.reshape(-1).tolist())
        self.constants.append(tensor)
        return name

    def node(self, op_type, *inputs, name="", outputs=1, **attributes):
        name = name or f"{op_type}_{len(self.nodes)}"
        results = [f"{name}.{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(op_type, inputs, results, name=name, **attributes))
        return results[0] if outputs == 1 else results

    def quantize(self, value, scale=0.02, *, zero=0, dtype=TensorProto.INT8, scales=None, **attributes):
        parameters = [self.constant(scale, scales), self.constant(np.full(np.shape(scale), zero), dtype)]
        return self.node("QuantizeLinear", value, *parameters, **attributes)

    def dequantize(self, value, scale=0.02, *, zero=0, dtype=TensorProto.INT8, scales=None, **attributes):
        parameters = [self.constant(scale, scales), self.constant(np.full(np.shape(scale), zero), dtype)]
        return self.node("DequantizeLinear", value, *parameters, **attributes)

    def grid(self, value, scale=0.02, **options):
        """Q and DQ."""
        return self.dequantize(self.quantize(value, scale, **options), scale, **options)

    def weight(self, shape, *, axis=0, dtype=TensorProto.INT8, block=0, **options):
        """Integers and DQ."""
        size = 1 if axis is None else shape[axis]
        scales = np.float32(0.01) if axis is None else np.full(size, 0.01)
        attributes = {} if axis is None else {"axis": axis}
        if block:
            scales = np.full([-(-dim // block) if index == axis else dim for index, dim in enumerate(shape)], 0.01)
            attributes["block_size"] = block
        integers = self.constant(np.arange(np.prod(shape)).reshape(shape) % 13 - 6, dtype)
        return self.dequantize(integers, scales, dtype=dtype, **attributes, **options)

    def output(self, value, dtype=None):
        self.outputs.append(helper.make_tensor_value_info(value, dtype or self.dtype, None))
        return self

    @property
    def proto(self):
        graph = helper.make_graph(self.nodes, "net", self.inputs, self.outputs, self.constants)
        proto = helper.make_model(graph, opset_imports=self.imports, ir_version=10)
        try:
            return onnx.shape_inference.infer_shapes(proto)
        except onnx.shape_inference.InferenceError:
            return proto

    @property
    def model(self):
        return from_proto(self.proto)


@pytest.fixture
def net():
    return Net


@pytest.fixture
def fatal():
    """Of what the linter finds, that for which the target's TensorRT makes no engine, or a wrong one."""

    def of(model, target):
        rules = (*MATERIALIZED, integer_findings)
        return refusals(finding for finding in findings(rules, model, Device.of(target)) if finding.fatal)

    return of


@pytest.fixture
def verdict(tmp_path):
    """Whether tensorrt_rtx builds a network, and in which type each node computes then."""
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("tensorrt_rtx is not installed")

    def of(made, capability="8.6"):
        path = tmp_path / "net.onnx"
        onnx.save(made.proto, path)
        result = build(BuildRequest(path, capability))
        return SimpleNamespace(built=result.built, types=types_of_nodes(result.layers), messages=result.messages)

    return of
