"""Tiny networks, written node by node, and what NVIDIA's own compiler makes of them."""

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from graphpress.backends.tensorrt.build import BuildRequest, build
from graphpress.backends.tensorrt.toolchain import INSTALL, find_toolchain

PACKED = {
    TensorProto.BFLOAT16: ml_dtypes.bfloat16,
    TensorProto.FLOAT8E4M3FN: ml_dtypes.float8_e4m3fn,
    TensorProto.FLOAT8E5M2: ml_dtypes.float8_e5m2,
}


class Graph:
    """A graph in the making; methods return the names of values.

    Args:
        shape: of the input ``x``.
        dtype: of floats.
    """

    def __init__(self, shape=(1, 32, 16, 16), *, dtype=TensorProto.FLOAT16, opset=21):
        self.nodes, self.constants, self.outputs = [], [], []
        self.inputs = [helper.make_tensor_value_info("x", dtype, shape)]
        self.dtype, self.opset = dtype, opset

    def input(self, name, shape, dtype=None):
        self.inputs.append(helper.make_tensor_value_info(name, dtype or self.dtype, shape))
        return name

    def constant(self, array, dtype=None, name=""):
        array, dtype, name = np.asarray(array), dtype or self.dtype, name or f"c{len(self.constants)}"
        if dtype in PACKED:
            raw = array.astype(PACKED[dtype]).tobytes()
            tensor = helper.make_tensor(name, dtype, array.shape, raw, raw=True)
        else:
            tensor = helper.make_tensor(name, dtype, array.shape, array.reshape(-1).tolist())
        self.constants.append(tensor)
        return name

    def noise(self, *shape):
        return self.constant(np.random.default_rng(len(self.constants)).normal(size=shape) * 0.1)

    def node(self, op_type, *inputs, name="", outputs=1, **attributes):
        name = name or f"{op_type}_{len(self.nodes)}"
        results = [f"{name}.{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(op_type, inputs, results, name=name, **attributes))
        return results[0] if outputs == 1 else results

    def grid(self, value, scale=0.05, *, zero=0, dtype=TensorProto.INT8, name="", **attributes):
        """Q and DQ."""
        parameters = [self.constant(scale), self.constant(np.full(np.shape(scale), zero), dtype)]
        name = name or f"grid_{len(self.nodes)}"
        integers = self.node("QuantizeLinear", value, *parameters, name=f"{name}.q", **attributes)
        return self.node("DequantizeLinear", integers, *parameters, name=f"{name}.dq", **attributes)

    def weight(self, *shape, axis=0, dtype=TensorProto.INT8, block=0):
        """Integers and DQ: one scale per index of ``axis``, one for all where that is None, or one a block."""
        attributes = {} if axis is None else {"axis": axis}
        scales = np.float32(0.01) if axis is None else np.full(shape[axis], 0.01)
        if block:
            scales = np.full([dim // block if index == axis else dim for index, dim in enumerate(shape)], 0.01)
            attributes["block_size"] = block
        integers = self.constant(np.arange(np.prod(shape)).reshape(shape) % 7, dtype)
        return self.node("DequantizeLinear", integers, self.constant(scales), **attributes)

    def conv(self, value, *shape, name, op="Conv", axis=0, bias=True, **attributes):
        """A quantized convolution."""
        channels = shape[1] if op == "ConvTranspose" else shape[0]
        operands = [self.weight(*shape, axis=axis), *([self.noise(channels)] if bias else [])]
        return self.node(op, value, *operands, name=name, **attributes)

    def output(self, *values, dtype=None):
        self.outputs += [helper.make_tensor_value_info(value, dtype or self.dtype, None) for value in values]
        return self

    def save(self, folder):
        graph = helper.make_graph(self.nodes, "net", self.inputs, self.outputs, self.constants)
        domains = [helper.make_opsetid(domain, 1) for domain in sorted({node.domain for node in self.nodes} - {""})]
        imports = [helper.make_opsetid("", self.opset), *domains]
        path = folder / "net.onnx"
        onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=10), path)
        return path


@pytest.fixture(scope="session")
def graph():
    """Makes a network."""
    return Graph


@pytest.fixture
def compiled(tmp_path, rtx):
    """What tensorrt_rtx makes of a network ahead of time."""

    def of(network, capability="8.6", **options):
        path = network if not isinstance(network, Graph) else network.save(tmp_path)
        return build(BuildRequest(path, capability, product=rtx.name, **options))

    return of


@pytest.fixture(scope="session")
def rtx():
    """The toolchain that builds without a GPU."""
    found = find_toolchain("tensorrt_rtx")
    if found is None:
        pytest.skip(f"tensorrt_rtx is not installed: {INSTALL}")
    return found
