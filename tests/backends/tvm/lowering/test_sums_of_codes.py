"""Sums of codes against ONNX Runtime's own: the same integers, ties included."""

from __future__ import annotations

from itertools import product

import numpy as np
import onnx_ir as ir
import pytest
from kernel_checks.harness import Images

from graphpress.backends.tvm.kernels.map import Map
from graphpress.backends.tvm.kernels.plane import Halo, Plane
from graphpress.backends.tvm.kernels.stages import Destination
from graphpress.backends.tvm.lowering.codes import codes_of
from graphpress.backends.tvm.lowering.epilogue import Epilogue
from graphpress.backends.tvm.program import Buffer
from graphpress.ir import Model
from graphpress.ir.encoding import AffineEncoding
from graphpress.runtime import Session

CHANNELS, ROWS, PIXELS = 64, 32, 32
"""All pairs of codes: 256 · 256."""
GRIDS = [
    [(0.5, 128), (0.25, 3), (0.5, 0)],
    [(0.03, 121), (0.017, 140), (0.0433, 117)],
    [(0.1, 0), (0.0123, 255), (0.07, 0)],
]
"""Scale and zero-point of both operands and of the sum; those of the first give a tie in every other sum."""


def encoding(scale: float, zero_point: int) -> AffineEncoding:
    """Of unsigned bytes."""
    return AffineEncoding("uint8", np.float32(scale), np.uint8(zero_point))


def qlinear_add(grids, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The sum as ONNX Runtime computes it."""
    names = [("a", "a_scale", "a_zero"), ("b", "b_scale", "b_zero"), ("c_scale", "c_zero")]
    inputs = {name: ir.Value(name=name) for names_ in names for name in names_}
    constants = []
    for (scale, zero_point), (*_, scale_name, zero_name) in zip(grids, names, strict=True):
        for name, array in ((scale_name, np.float32(scale)), (zero_name, np.uint8(zero_point))):
            inputs[name].const_value = ir.tensor(np.array(array), name=name)
            constants.append(inputs[name])
    node = ir.node("QLinearAdd", list(inputs.values()), domain="com.microsoft")
    for name in ("a", "b"):
        inputs[name].shape, inputs[name].dtype = ir.Shape(first.shape), ir.DataType.UINT8
    node.outputs[0].name, node.outputs[0].dtype, node.outputs[0].shape = "c", ir.DataType.UINT8, ir.Shape(first.shape)
    opsets = {"": 20, "com.microsoft": 1}
    ends = [inputs["a"], inputs["b"]], [node.outputs[0]]
    graph = ir.Graph(*ends, nodes=[node], initializers=constants, opset_imports=opsets, name="sum")
    return Session(Model(graph, ir_version=10)).run({"a": first, "b": second})["c"]


@pytest.mark.parametrize("comes_first", [True, False])
def test_ties_are_rounded_as_onnxruntime_rounds_them(isa, compiled, comes_first):
    plane = Plane(CHANNELS, ROWS, PIXELS, CHANNELS, Halo(), isa.dot.activations)
    pairs = np.array(list(product(range(256), repeat=2)), np.uint8).T.reshape(2, ROWS, PIXELS, CHANNELS)
    programs = []
    for grids in GRIDS:
        before, other, after = (codes_of(encoding(*grid), isa) for grid in grids)
        epilogue = Epilogue(unit=before.scale)
        epilogue.add_codes(Buffer(plane), plane, before, other, after, comes_first)
        store = Destination(plane, after.zero_point)
        programs.append((Map(plane, store, CHANNELS, tuple(epilogue.stages), before.zero_point), before.shift))
    library = compiled([kernel for kernel, _ in programs])
    for grids, (kernel, shift) in zip(GRIDS, programs, strict=True):
        codes = [(array.astype(np.int16) + shift).astype(plane.dtype)[None] for array in pairs]
        result = Images.filled(plane, 1, 0).memory
        computed = library.run(kernel, 1, result, source=codes[0], residual=codes[1]).astype(np.int16) - shift
        if comes_first:
            expected = qlinear_add(grids, pairs[0], pairs[1])
        else:
            expected = qlinear_add([grids[1], grids[0], grids[2]], pairs[1], pairs[0])
        np.testing.assert_array_equal(computed[0], expected)


def test_the_mean_of_codes_is_scaled_as_onnxruntime_scales_it():
    """By the quotient of two numbers of float32, of which the second is itself rounded."""
    scale, after, pixels = np.float32(0.023456789), np.float32(0.0171828), 49
    epilogue = Epilogue(unit=float(scale), summed=pixels)
    epilogue.into(float(after))
    assert [stage.factor for stage in epilogue.stages] == [float(scale / (after * np.float32(pixels)))]
