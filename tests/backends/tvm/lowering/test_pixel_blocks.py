"""Convolutions to few channels compute several pixels at once, and whatever reads their results reads the same."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_checks.graphs import assert_like_onnxruntime, compiled_outputs, graph
from kernel_checks.nodes import Case, check

from graphpress.backends.onnxruntime.backend import OnnxRuntimeBackend
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.kernels.plane import Plane
from graphpress.backends.tvm.kernels.product import Product
from graphpress.backends.tvm.kernels.window import TapWindow
from graphpress.backends.tvm.lowering.lower import lower
from graphpress.backends.tvm.lowering.pixel_blocks import pixel_block
from graphpress.ir import Model, clone
from graphpress.manager.contract import Context
from graphpress.passes.quantize.quantize import Quantize
from graphpress.runtime import Session
from graphpress.targets import load_target

RNG = np.random.default_rng(0)
LANES = 16


def weights(*shape: int) -> np.ndarray:
    """Numbers that sum up to some of the size of one."""
    return RNG.standard_normal(shape).astype(np.float32) / 4


def pixels(channels: int, taps: int, width: int = 88, stride: int = 1, dilation: int = 1) -> int | None:
    """Of a block."""
    window = TapWindow((3, taps), (1, stride), (1, dilation), (1, taps // 2))
    block = pixel_block(Plane(channels, 9, width, LANES), window, {}, LANES)
    return block and block.pixels


def in_blocks(model: Model, isa: Isa) -> int:
    """How many convolutions are computed so."""
    products = [step for step in lower(model, isa).steps if isinstance(step.kernel, Product)]
    return len({id(step.result) for step in products if step.kernel.store.plane.channels > step.result.plane.channels})


def test_a_block_fills_vectors_where_that_saves_products():
    assert (pixels(1, 5), pixels(8, 5), pixels(4, 3), pixels(3, 7)) == (16, 2, 4, 16)


@pytest.mark.parametrize(
    ("channels", "taps", "rest"), [(16, 5, {}), (8, 1, {}), (8, 3, {"dilation": 9}), (1, 5, {"width": 9})]
)
def test_otherwise_pixels_stay_single(channels, taps, rest):
    assert pixels(channels, taps, **rest) is None


def test_all_kinds_of_windows(newest, tmp_path):
    shape, bias = (2, 5, 6, 37), weights(1)
    cases = {
        "to one": Case("Conv", [shape, weights(1, 5, 3, 3), bias], {"pads": [1, 1, 1, 1]}),
        "to eight, whole blocks": Case("Conv", [(2, 5, 6, 36), weights(8, 5, 1, 9)], {"pads": [0, 4, 0, 4]}),
        "to eight, a rest": Case("Conv", [shape, weights(8, 5, 1, 9)], {"pads": [0, 4, 0, 4]}),
        "to three, strided": Case("Conv", [shape, weights(3, 5, 3, 7)], {"strides": [2, 2], "pads": [1, 3, 1, 3]}),
        "to two, apart": Case("Conv", [shape, weights(2, 5, 3, 4)], {"dilations": [2, 2], "pads": [1, 2, 1, 2]}),
        "a line": Case("Conv", [(2, 1, 150), weights(1, 1, 31)], {"strides": [2]}),
    }
    check(cases, newest, tmp_path)


def test_whatever_reads_them_and_what_stands_behind_them(newest, tmp_path):
    model = graph(
        """(float[2,3,9,35] x) => (float[2,4,9,35] conv, float[2,4,9,35] depthwise, float[2,4,4,17] pool,
            float[2,8,9,35] joined, float[2,4,18,70] up, float[2,9,35,4] turned, float[2,4,9,35] share,
            float[2,4,1,1] mean, float[2,5,19,71] transposed) {
            raw = Conv<pads=[2, 2, 2, 2]>(x, w, b)
            steep = PRelu(raw, slope)
            few = Mul(steep, factor)
            conv = Conv<pads=[1, 1, 1, 1]>(few, v)
            depthwise = Conv<pads=[1, 1, 1, 1], group=4>(few, d)
            pool = MaxPool<kernel_shape=[2, 2], strides=[2, 2]>(few)
            joined = Concat<axis=1>(few, conv)
            up = Resize<mode="nearest">(few, none, scales)
            turned = Transpose<perm=[0, 2, 3, 1]>(few)
            share = Softmax<axis=1>(few)
            mean = GlobalAveragePool(few)
            transposed = ConvTranspose<strides=[2, 2]>(few, t)
        }""",
        w=weights(4, 3, 5, 5),
        b=weights(4),
        slope=weights(4, 1, 1),
        factor=np.float32(0.3),
        v=weights(4, 4, 3, 3),
        d=weights(4, 1, 3, 3),
        t=weights(4, 5, 3, 3),
        none=np.zeros(0, np.float32),
        scales=np.array([1, 1, 2, 2], np.float32),
    )
    assert in_blocks(model, newest) == 2
    assert_like_onnxruntime(model, {"x": weights(2, 3, 9, 35)}, newest, tmp_path)


def test_other_operands_of_each_pixel_keep_pixels_single(newest, tmp_path):
    model = graph(
        """(float[1,3,9,32] x, float[1,4,9,32] other) => (float[1,4,9,32] y) {
            raw = Conv<pads=[2, 2, 2, 2]>(x, w)
            y = Add(raw, other)
        }""",
        w=weights(4, 3, 5, 5),
    )
    assert in_blocks(model, newest) == 0
    assert_like_onnxruntime(model, {"x": weights(1, 3, 9, 32), "other": weights(1, 4, 9, 32)}, newest, tmp_path)


@pytest.mark.parametrize("channels", [1, 4, 8])
def test_codes_are_the_integers_of_onnxruntime(channels, newest, tmp_path):
    model = graph(
        f"""(float[1,{channels},12,38] x) => (float[1,{channels},12,38] y) {{
            a = Conv<pads=[2, 3, 2, 3]>(x, w0)
            b = Relu(a)
            c = Conv<pads=[2, 3, 2, 3]>(b, w1)
            y = Relu(c)
        }}""",
        **{f"w{number}": weights(channels, channels, 5, 7) for number in range(2)},
    )
    feed, target = {"x": weights(1, channels, 12, 38)}, load_target("cpu")
    quantized = clone(model)
    Quantize().run(quantized, Context(target=target, original=model, calibration=[feed]))
    assert in_blocks(quantized, newest) == 2
    expected = Session(OnnxRuntimeBackend().prepare(quantized, target).delivered).run(feed)
    np.testing.assert_array_equal(compiled_outputs(quantized, feed, newest, tmp_path)["y"], expected["y"])
