"""MatMulNBits of ONNX Runtime, beside ONNX Runtime itself."""

from __future__ import annotations

import numpy as np
import onnx.helper
import onnx.numpy_helper
import pytest
from kernel_checks.graphs import assert_like_onnxruntime, compiled_outputs

from graphpress.analysis.shapes import infer_shapes
from graphpress.backends.tvm.kernels.coded_blocks import CodedBlocks
from graphpress.backends.tvm.kernels.weight_only import WeightOnlyProduct
from graphpress.backends.tvm.lowering.lower import lower
from graphpress.errors import ModelError
from graphpress.ir import Model, from_proto
from graphpress.runtime import Session

PRODUCTS = [
    # inputs, outputs, block, bits, zero-points and bias
    (64, 40, 16, 4, False),
    (96, 33, 32, 4, True),
    (80, 24, 32, 4, True),
    (64, 20, 64, 8, True),
]


def product_node(name: str, case: tuple[int, ...], rng: np.random.Generator, **more: int) -> tuple[list, list]:
    """A node ``x_NAME`` to ``y_NAME``, and its initializers."""
    inputs, outputs, block, bits, full = case
    blocks = -(-inputs // block)
    arrays = {
        "codes": rng.integers(0, 256, (outputs, blocks, block * bits // 8), np.uint8),
        "scales": (rng.random((outputs, blocks)) / 100).astype(np.float32),
    }
    if full:
        arrays["zeros"] = rng.integers(0, 256, (outputs, -(-blocks * bits // 8)), np.uint8)
        arrays["bias"] = rng.standard_normal(outputs).astype(np.float32)
    sizes = {"K": inputs, "N": outputs, "block_size": block, "bits": bits, **more}
    places = ["codes", "scales", "zeros", "", "bias"]
    operands = [f"{place}_{name}" if place in arrays else "" for place in places]
    node = onnx.helper.make_node(
        "MatMulNBits", [f"x_{name}", *operands], [f"y_{name}"], name, domain="com.microsoft", **sizes
    )
    return [node], [onnx.numpy_helper.from_array(array, f"{place}_{name}") for place, array in arrays.items()]


def model_of(parts: list, ports: dict[str, list[int]], whole: tuple[str, ...] = ()) -> Model:
    """Nodes and initializers; ports are inputs where they are called x, and outputs; whole numbers where it says so."""
    types = {name: onnx.TensorProto.INT64 if name in whole else onnx.TensorProto.FLOAT for name in ports}
    values = {name: onnx.helper.make_tensor_value_info(name, types[name], shape) for name, shape in ports.items()}
    taken = [value for name, value in values.items() if name.startswith("x")]
    given = [value for name, value in values.items() if name.startswith("y")]
    nodes, arrays = ([each for part in lists for each in part] for lists in zip(*parts, strict=True))
    graph = onnx.helper.make_graph(nodes, "g", taken, given, arrays)
    opsets = [onnx.helper.make_opsetid("", 21), onnx.helper.make_opsetid("com.microsoft", 1)]
    model = from_proto(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10))
    infer_shapes(model)
    return model


def products(level: int) -> tuple[Model, dict[str, np.ndarray]]:
    """All cases in one model, with an accuracy level, and what it is fed."""
    rng = np.random.default_rng(0)
    parts = [product_node(str(n), case, rng, accuracy_level=level) for n, case in enumerate(PRODUCTS)]
    ports = {f"x_{n}": [2, 3, case[0]] for n, case in enumerate(PRODUCTS)}
    feed = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in ports.items()}
    return model_of(parts, ports | {f"y_{n}": [2, 3, case[1]] for n, case in enumerate(PRODUCTS)}), feed


def test_products_of_floats(newest, tmp_path):
    model, feed = products(0)
    kernels = [step.kernel for step in lower(model, newest).steps]
    assert [kernel.bits for kernel in kernels if isinstance(kernel, WeightOnlyProduct)] == [4, 4, 4, 8]
    assert_like_onnxruntime(model, feed, newest, tmp_path)


@pytest.mark.floats
def test_accuracy_level_four_rounds_activations_block_by_block(isa, tmp_path):
    model, feed = products(4)
    steps = lower(model, isa).steps
    eight_bits = isa.dot.largest_weight == 128
    assert sum(isinstance(step.kernel, CodedBlocks) for step in steps) == (4 if eight_bits else 3)
    results = compiled_outputs(model, feed, isa, tmp_path)
    for name, exact in Session(products(0)[0]).run(feed).items():
        index = int(name[2:])
        block = min(PRODUCTS[index][2], np.gcd(PRODUCTS[index][0], PRODUCTS[index][2]))
        x = feed[f"x_{index}"]
        blocked = x.reshape(*x.shape[:-1], -1, block)
        scale = np.abs(blocked).max(axis=-1, keepdims=True) / 127
        rounded = (np.rint(blocked / scale) * scale).reshape(x.shape) if eight_bits or index < 3 else x
        expected = Session(products(0)[0]).run({**feed, f"x_{index}": rounded.astype(np.float32)})[name]
        np.testing.assert_allclose(results[name], expected, rtol=0, atol=1e-3 * np.abs(exact).max())


def test_rows_are_rounded_once_for_all_that_read_them(newest):
    rng, case = np.random.default_rng(0), PRODUCTS[0]
    parts = [product_node(name, case, rng, accuracy_level=4) for name in ("a", "b")]
    for nodes, _ in parts:
        nodes[0].input[0] = "x"
    model = model_of(parts, {"x": [1, case[0]], "y_a": [1, case[1]], "y_b": [1, case[1]]})
    kernels = [type(step.kernel) for step in lower(model, newest).steps]
    assert kernels.count(CodedBlocks) == 1
    assert kernels.count(WeightOnlyProduct) == 2


def test_inputs_in_an_order_of_their_own_are_refused(newest):
    nodes, arrays = product_node("n", PRODUCTS[0], np.random.default_rng(0))
    nodes[0].input[4] = "order"
    arrays.append(onnx.numpy_helper.from_array(np.arange(64, dtype=np.int32) // 16, "order"))
    model = model_of([(nodes, arrays)], {"x_n": [1, 64], "y_n": [1, 40]})
    with pytest.raises(ModelError, match="order of their own"):
        lower(model, newest)


@pytest.mark.parametrize(("dtype", "with_zeros"), [("int4", False), ("uint4", True), ("uint8", False), ("uint8", True)])
def test_rows_of_packed_tables(dtype, with_zeros, newest, tmp_path):
    rng, rows, width, block = np.random.default_rng(0), 9, 48, 16
    packed = dtype == "uint8"
    low, high = {"int4": (-8, 8), "uint4": (0, 16), "uint8": (0, 256)}[dtype]
    kind = getattr(onnx.TensorProto, dtype.upper())

    def integers(name: str, elements: int) -> onnx.TensorProto:
        numbers = rng.integers(low, high, (rows, -(-elements // 2) if packed else elements))
        return onnx.helper.make_tensor(name, kind, numbers.shape, numbers.reshape(-1))

    arrays = [integers("table", width), onnx.numpy_helper.from_array(rng.random((rows, 3)).astype("f4"), "scales")]
    arrays += [integers("zeros", width // block)] if with_zeros else []
    names = ["table", "x_i", "scales", *(["zeros"] if with_zeros else [])]
    node = onnx.helper.make_node("GatherBlockQuantized", names, ["h"], domain="com.microsoft", block_size=block)
    relu = onnx.helper.make_node("Relu", ["h"], ["y"])
    model = model_of([([node, relu], arrays)], {"x_i": [2, 3], "y": [2, 3, width]}, whole=("x_i",))
    feed = {"x_i": np.array([[0, 8, 3], [4, 4, 1]])}
    assert_like_onnxruntime(model, feed, newest, tmp_path)
