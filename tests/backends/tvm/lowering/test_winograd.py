"""Which convolutions change their basis, and that whole graphs compute the same."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_checks.graphs import assert_like_onnxruntime, graph

from graphpress.backends.tvm.codegen.isa import ISAS
from graphpress.backends.tvm.kernels.plane import Halo, Plane
from graphpress.backends.tvm.kernels.window import TapWindow
from graphpress.backends.tvm.kernels.winograd import WinogradInput
from graphpress.backends.tvm.lowering.lower import lower
from graphpress.backends.tvm.lowering.winograd import winograd_tile

SAME = TapWindow((3, 3), pads=(1, 1))


def chosen(
    channels: int, size: int, window: TapWindow = SAME, isa: str = "avx512-vnni", **layout: object
) -> int | None:
    """The tile of a square convolution that keeps its channels."""
    lanes = ISAS[isa].lanes
    source = Plane(channels, size, size, -(-channels // lanes) * lanes, Halo(1, 1, 1, 1), **layout)
    result = Plane(channels, size, size, source.stride)
    return winograd_tile(source, result, window, ISAS[isa])


@pytest.mark.parametrize("isa", ["avx512-vnni", "avx2", "neon"])
def test_large_tiles_for_large_images_and_small_ones_where_weights_weigh(isa):
    assert [chosen(channels, size, isa=isa) for channels, size in ((64, 56), (128, 28), (256, 14))] == [4, 4, 2]


def test_a_few_channels_are_not_worth_the_change():
    assert chosen(8, 56) is None


@pytest.mark.parametrize(
    "window",
    [
        TapWindow((3, 3), (2, 2), pads=(1, 1)),
        TapWindow((3, 3), dilations=(2, 2), pads=(2, 2)),
        TapWindow((5, 5), pads=(2, 2)),
        TapWindow(),
    ],
)
def test_other_windows_stay(window):
    assert chosen(64, 56, window) is None


def test_codes_stay():
    assert chosen(64, 56, dtype="uint8") is None


def test_a_graph_with_a_residual_in_batches(newest, tmp_path):
    rng = np.random.default_rng(0)
    kernels = {f"w{number}": rng.standard_normal((64, 64, 3, 3)).astype(np.float32) / 24 for number in range(2)}
    biases = {f"b{number}": rng.standard_normal(64).astype(np.float32) for number in range(2)}
    model = graph(
        """(float[2,64,13,18] x) => (float[2,64,13,18] y) {
            a = Conv <pads=[1,1,1,1]> (x, w0, b0)
            r = Relu (a)
            c = Conv <pads=[1,1,1,1]> (r, w1, b1)
            s = Add (c, x)
            y = Relu (s)
        }""",
        **kernels,
        **biases,
    )
    assert sum(isinstance(step.kernel, WinogradInput) for step in lower(model, newest).steps) == 2
    feed = {"x": rng.standard_normal((2, 64, 13, 18)).astype(np.float32)}
    assert_like_onnxruntime(model, feed, newest, tmp_path, tolerance=1e-5)
