"""Which nodes compute in integers, and which readers see it."""

import re

import numpy as np
import pytest

from graphpress.ir import Editor, constant
from graphpress.runtime import Session

CONV = "(float[N,3,8,8] x) => (float[N,4,8,8] y)"
PADS = "<pads=[1,1,1,1]>"


def test_a_compute_op_reads_integers_and_a_last_convolution_writes_them(build, quantize, weights):
    done = quantize(build(f"{CONV} {{ y = Conv{PADS}(x, w, b) }}", w=weights.of(4, 3, 3, 3), b=weights.of(4)))
    assert done.integer == {"y"}
    assert done.encoding("x").dtype == done.encoding("y").dtype == "uint8"
    assert done.encoding("w").dtype == "int8"
    assert done.encoding("b").dtype == "int32"
    assert done.encoding("b").derived


@pytest.mark.parametrize("op", ["Gemm(x, w, b)", "MatMul(x, w)"])
def test_a_last_matrix_product_returns_float(build, quantize, weights, op):
    done = quantize(build(f"(float[N,6] x) => (float[N,5] y) {{ y = {op} }}", w=weights.of(6, 5), b=weights.of(5)))
    assert done.integer == {"y"}
    assert done.encoding("x") is not None
    assert done.encoding("y") is None


def test_a_matrix_product_between_two_writes_integers(build, quantize, weights):
    done = quantize(build("(float[N,6] x) => (float[N,6] y) { h = MatMul(x, w) y = MatMul(h, w) }", w=weights.of(6, 6)))
    assert done.encoding("h") is not None


@pytest.mark.parametrize("activation", ["Relu(c)", "Clip(c, zero, six)"])
def test_an_activation_behind_a_compute_op_is_absorbed(build, quantize, weights, activation):
    done = quantize(
        build(
            f"{CONV} {{ c = Conv{PADS}(x, w) r = {activation} y = Conv{PADS}(r, v) }}",
            w=weights.of(4, 3, 3, 3),
            v=weights.of(4, 4, 3, 3),
            zero=np.float32(0),
            six=np.float32(6),
        )
    )
    assert done.encoding("c") is None
    assert done.encoding("r").zero_point == 0
    legal = done.legal()
    assert not any(node.op_type in ("Relu", "Clip") for node in legal.graph)
    assert done.sqnr()["y"] > 30


def test_an_activation_that_saturation_does_not_do_stays(build, quantize, weights):
    """Clip to [-1, 1]: the range of its result begins at -1, and the quantizer's zero is inside."""
    done = quantize(
        build(
            f"{CONV} {{ c = Conv{PADS}(x, w) r = Clip(c, low, high) s = Sigmoid(r) y = Add(s, r) }}",
            w=weights.of(4, 3, 3, 3),
            low=np.float32(-0.01),
            high=np.float32(0.01),
        )
    )
    assert done.sqnr()["y"] > 30


def test_a_residual_add_is_integer(build, quantize, weights):
    done = quantize(
        build(
            "(float[N,4,8,8] x) => (float[N,4,8,8] y) "
            f"{{ a = Conv{PADS}(x, w) r = Relu(a) b = Conv{PADS}(r, w) s = Add(b, r) t = Relu(s) "
            f"y = Conv{PADS}(t, w) }}",
            w=weights.of(4, 4, 3, 3),
        )
    )
    assert done.integer == {"a", "b", "s", "y"}
    assert all(done.encoding(name) is not None for name in ("r", "b", "t"))
    assert done.encoding("s") is None


def test_a_float_island_reads_and_writes_float(build, quantize, weights):
    done = quantize(
        build(
            f"(float[N,4,8,8] x) => (float[N,4,8,8] y) {{ a = Conv{PADS}(x, w) b = Erf(a) y = Conv{PADS}(b, w) }}",
            w=weights.of(4, 4, 3, 3),
        )
    )
    assert done.integer == {"a", "y"}
    assert done.read("y", 0) is not None
    kinds = [node.op_type for node in done.legal().graph]
    assert kinds.count("Erf") == 1
    assert kinds.count("QuantizeLinear") == 4


def test_a_float_value_is_read_encoded_by_integer_nodes_only(build, quantize, weights):
    done = quantize(
        build(
            "(float[N,4,8,8] x) => (float[N,4,8,8] y, float[N,4,8,8] z) "
            f"{{ e = Erf(x) y = Conv{PADS}(e, w) z = Exp(e) }}",
            w=weights.of(4, 4, 3, 3),
        )
    )
    assert done.read("y", 0) is not None
    assert done.read("z", 0) is None
    assert done.sqnr()["z"] > 150


def test_a_graph_output_that_integers_read_stays_exact_outside(build, quantize, weights):
    done = quantize(
        build(
            f"(float[N,4,8,8] x) => (float[N,4,8,8] e, float[N,4,8,8] y) {{ e = Erf(x) y = Conv{PADS}(e, w) }}",
            w=weights.of(4, 4, 3, 3),
        )
    )
    assert done.sqnr()["e"] > 150
    assert 25 < done.sqnr()["y"] < 100


def test_a_weight_that_is_a_graph_output_stays_exact_outside(build, quantize, weights):
    done = quantize(
        build(f"(float[N,4,8,8] x) => (float[N,4,8,8] y, float[4,4,3,3] w) {{ y = Conv{PADS}(x, w) }}",
              w=weights.of(4, 4, 3, 3))
    )  # fmt: skip
    assert done.read("y", 1) is not None
    feed = done.feeds[0]
    np.testing.assert_array_equal(Session(done.legal()).run(feed)["w"], weights.of(4, 4, 3, 3))


def test_a_value_of_unknown_rank_is_named(build, quantize, weights):
    done = quantize(
        build(f"(float[N,4,8,8] x, int64[R] s) => (float[N,4,8,8] y) {{ u = Reshape(x, s) y = Conv{PADS}(u, w) }}",
              w=weights.of(4, 4, 3, 3)),
        feeds=[],
    )  # fmt: skip
    assert done.refused == {"u": "its type and rank are not known"}


def test_neighbors_and_movers_need_integers_on_both_sides(build, quantize, weights):
    done = quantize(
        build(
            "(float[N,4,8,8] x) => (float[N,4,4,4] y) "
            f"{{ p = AveragePool<kernel_shape=[2,2],strides=[2,2]>(x) a = Conv{PADS}(p, w) y = Sigmoid(a) }}",
            w=weights.of(4, 4, 3, 3),
        )
    )
    assert done.integer == {"a"}


@pytest.mark.parametrize(
    "mover",
    [
        "MaxPool<kernel_shape=[3,3],pads=[1,1,1,1]>(a)",
        "Pad(a, pads)",
        "Slice(a, start, stop, axes)",
        "Transpose<perm=[0,1,3,2]>(a)",
        "Reshape(a, same)",
        "Concat<axis=1>(a, a)",
    ],
)
def test_data_movers_share_one_range(build, quantize, weights, mover):
    out = 8 if "Concat" in mover else 4
    done = quantize(
        build(
            f"(float[N,4,8,8] x) => (float[N,4,h,w] y) {{ a = Conv{PADS}(x, w) m = {mover} y = Conv{PADS}(m, v) }}",
            w=weights.of(4, 4, 3, 3),
            v=weights.of(4, out, 3, 3),
            pads=np.int64([0, 0, 1, 1, 0, 0, 1, 1]),
            start=np.int64([0]),
            stop=np.int64([5]),
            axes=np.int64([3]),
            same=np.int64([0, 4, 8, 8]),
        )
    )
    assert "m" in done.integer
    if "Concat" not in mover:
        assert done.encoding("m").scale == done.encoding("a").scale
        assert done.encoding("m").zero_point == done.encoding("a").zero_point
        assert done.encoding("m") == done.encoding("a")
    assert done.sqnr()["y"] > 25


def test_sizes_that_a_mover_reads_at_run_time_are_no_activations(build, quantize, weights):
    model = build(
        f"(float[1,4,8,8] x, float[4] scales) => (float[1,4,h,w] y) {{ a = Conv{PADS}(x, w) "
        f'm = Resize<mode="nearest">(a, , scales) y = Conv{PADS}(m, w) }}',
        w=weights.of(4, 4, 3, 3),
    )
    feed = {
        "x": np.random.default_rng(0).normal(size=(1, 4, 8, 8)).astype(np.float32),
        "scales": np.float32([1, 1, 1.5, 2]),
    }
    done = quantize(model, [feed])
    assert done.encoding("scales") is None
    assert done.sqnr()["y"] > 25


def test_a_padding_value_lies_inside_the_shared_range(build, quantize, weights):
    done = quantize(
        build(
            "(float[N,4,8,8] x) => (float[N,4,h,w] y) "
            f"{{ a = Conv{PADS}(x, w) m = Pad(a, pads, fill) y = Conv{PADS}(m, w) }}",
            w=weights.of(4, 4, 3, 3),
            pads=np.int64([0, 0, 1, 1, 0, 0, 1, 1]),
            fill=np.float32(40),
        )
    )
    assert done.encoding("m").representable[1] > 35
    assert done.sqnr()["y"] > 20


def test_excluded_nodes_stay_float_and_read_float_weights(build, quantize, weights):
    model = build(
        f"(float[N,4,8,8] x) => (float[N,4,8,8] y) {{ a = Conv{PADS}(x, w) y = Conv{PADS}(a, w) }}",
        w=weights.of(4, 4, 3, 3),
    )
    done = quantize(model, exclude=re.compile("Conv_y"))
    assert done.integer == {"a"}
    assert done.refused["Conv_y"] == "excluded by the user"
    assert done.read("a", 1) is not None
    assert done.read("y", 1) is None


def test_two_readers_of_one_weight_may_want_it_along_other_axes(build, quantize, weights):
    done = quantize(
        build(
            "(float[N,6] x) => (float[N,6] y) { h = MatMul(x, w) y = Gemm<transB=1>(h, w) }",
            w=weights.of(6, 6),
        )
    )
    assert done.integer == {"h", "y"}
    assert done.read("h", 1).axis == 1
    assert done.read("y", 1).axis == 0
    assert done.sqnr()["y"] > 25


@pytest.mark.parametrize(
    ("text", "where", "why"),
    [
        ("(float[N,6] x, float[6,5] w) => (float[N,5] y) { y = MatMul(x, w) }", "MatMul_y", "computed at run time"),
        (
            "(float[2,3,4] x, float[2,4,3] z) => (float[2,3,3] y) { y = MatMul(x, z) }",
            "MatMul_y",
            "computed at run time",
        ),
        ("(float[N,6] x) => (float[N,5] y) { y = Gemm<alpha=2.0>(x, k, b) }", "Gemm_y", "alpha"),
        ("(float[6,2] x) => (float[2,5] y) { y = Gemm<transA=1>(x, k) }", "Gemm_y", "transA"),
        ("(float[N,6] x, float[5] c) => (float[N,5] y) { y = Gemm(x, k, c) }", "c", "bias is computed at run time"),
        ("(double[N,6] x) => (double[N,5] y) { y = MatMul(x, d) }", "MatMul_y", "float32"),
    ],
)
def test_compute_ops_without_an_integer_kernel_are_refused(build, quantize, weights, text, where, why):
    model = build(text, k=weights.of(6, 5), b=weights.of(5), d=weights.of(6, 5).astype(np.float64))
    feeds = None if "float[" in text else [{"x": np.ones((2, 6))}]
    done = quantize(model, feeds)
    assert done.integer == set()
    assert done.outcome.changes == 0
    assert why in done.refused[where]


def test_what_is_quantized_already_stays_as_it_is(build, quantize, weights):
    done = quantize(
        build(
            f"(float[N,4,8,8] x) => (float[N,4,8,8] y) {{ q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) "
            f"w = DequantizeLinear(iw, t) a = Conv{PADS}(d, w) "
            f"qa = QuantizeLinear(a, s, z) da = DequantizeLinear(qa, s, z) b = Conv{PADS}(da, v) "
            f"e = Conv{PADS}(b, v) f = Add(e, da) y = Conv{PADS}(f, v) }}",
            s=np.float32(0.05),
            z=np.uint8(128),
            t=np.float32(0.02),
            v=weights.of(4, 4, 3, 3),
            iw=np.random.default_rng(0).integers(-127, 127, (4, 4, 3, 3)).astype(np.int8),
        )
    )
    for name in ("x", "a"):
        assert done.encoding(name).imported
        assert done.encoding(name).scale == pytest.approx(0.05)
    assert {"Conv_a", "Conv_b"} <= {where for where, why in done.refused.items() if "quantized already" in why}
    assert done.integer == {"a", "e", "y"}  # a came so
    legal = done.legal()
    assert any(init.const_value.dtype.name == "INT8" for init in legal.graph.initializers.values())


def test_a_graph_without_compute_ops_is_left_alone(build, quantize):
    done = quantize(build("(float[N,4] x) => (float[N,4] y) { a = Add(x, x) y = Relu(a) }"))
    assert done.outcome.changes == 0
    assert "integer kernel" in done.outcome.notes[0]


TWO = "(float[N,3,8,8] x) => (float[N,4,8,8] y) { h = Conv (x, v)\n y = Conv (h, w) }"


def two_layers(build, first, second):
    random = np.random.default_rng(1)
    v, w = (random.normal(size=(4, inputs, 1, 1)).astype(np.float32) for inputs in (3, 4))
    return build(TWO, v=v * first, w=w * second)


@pytest.mark.parametrize("size", [1e-6, 1e-5])
def test_what_scales_in_half_precision_cannot_hold_stays_float_by_name(build, quantize, jetson, size):
    done = quantize(two_layers(build, size, 1), target=jetson)
    assert done.integer == set()
    assert any("float16 holds no scale" in why for why in done.refused.values())
    assert done.encoding("h") is None


def test_small_weights_alone_keep_their_layer_float(build, quantize, jetson):
    done = quantize(two_layers(build, 1, 1e-6), target=jetson)
    assert done.integer == {"h"}
    assert [why for why in done.refused.values() if "its weights are so small" in why]


@pytest.mark.parametrize("size", [1e-6, 1.0])
def test_scales_in_single_precision_hold_them(build, quantize, size):
    done = quantize(two_layers(build, size, 1))
    assert done.integer == {"h", "y"}


def test_a_channel_of_nearly_nothing_does_not_keep_its_layer_float(build, quantize, jetson):
    model = two_layers(build, 1, 1)
    weight = constant(model.graph.initializers["v"]).copy()
    weight[0] = 1e-9
    Editor(model).set_constant(model.graph.initializers["v"], weight)
    assert quantize(model, target=jetson).integer == {"h", "y"}


@pytest.mark.parametrize(("low", "high"), [(1.0, 6.0), (-0.7, 0.7), (None, 0.5), (0.3, None)])
def test_a_convolution_before_any_clamp_runs_in_integers(build, quantize, weights, tmp_path, low, high):
    limits = {name: np.float32(limit) for name, limit in (("low", low), ("high", high)) if limit is not None}
    clip = f"Clip(a, {'low' if low is not None else ''}{', high' if high is not None else ''})"
    text = f"(float[N,3,8,8] x) => (float[N,4,6,6] y) {{ a = Conv(x, w) c = {clip} y = Conv<pads=[1,1,1,1]>(c, v) }}"
    done = quantize(build(text, w=weights.of(4, 3, 3, 3), v=weights.of(4, 4, 3, 3), **limits))
    kernels = done.kernels(tmp_path)
    assert kernels.count("QLinearConv") == 2
    assert "FusedConv" not in kernels
    assert min(done.sqnr().values()) > 25
