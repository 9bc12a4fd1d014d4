"""Where a product's kernel adds before it rounds: only the skip is encoded, and only where it is in integers anyway."""

import re

import numpy as np
import pytest

from graphpress.ir import constant
from graphpress.ir.encoding import compute_request, encoding_of, output_encoding, read_encoding
from graphpress.passes.quantize._residual import accumulations

PADS = "<pads=[1,1,1,1]>"
PRODUCTS = ("Conv", "MatMul", "Gemm")


def image(body, out="y"):
    return f"(float[N,4,8,8] x) => (float[N,4,8,8] {out}) {{ {body} }}"


@pytest.fixture
def on_jetson(build, quantize, weights, jetson):
    def run(text, **constants):
        model = build(text, opset=19, w=weights.of(4, 4, 3, 3), **constants)
        done = quantize(model, target=jetson)
        assert min(done.sqnr().values()) > 20
        return done

    return run


def test_the_skip_is_read_in_integers_and_the_accumulator_as_it_is(on_jetson):
    body = f"a = Conv{PADS}(x, w) r = Relu(a) b = Conv{PADS}(r, w) s = Add(b, r) t = Relu(s) y = Conv{PADS}(t, w)"
    done = on_jetson(image(body))
    assert done.integer == {"a", "b", "y"}
    assert done.encoding("b") is None
    assert done.encoding("s") is None
    assert done.read("s", 0) is None
    assert done.read("s", 1) == done.read("b", 0) == done.encoding("r")
    assert done.read("y", 0) == done.encoding("t")


@pytest.mark.parametrize("order", ["Add(b, r)", "Add(r, b)"])
def test_operands_in_either_order(on_jetson, order):
    body = f"a = Conv{PADS}(x, w) r = Relu(a) b = Conv{PADS}(r, w) s = {order} y = Conv{PADS}(s, w)"
    done = on_jetson(image(body))
    encoded = [done.read("s", index) is not None for index in range(2)]
    assert encoded == [one == "r" for one in order.removeprefix("Add(").removesuffix(")").split(", ")]


def test_of_two_products_the_first_is_written_and_the_second_adds(on_jetson):
    body = f"a = Conv{PADS}(x, w) b = Conv{PADS}(x, w) s = Add(b, a) y = Conv{PADS}(s, w)"
    done = on_jetson(image(body))
    assert done.read("s", 1) == done.encoding("a")
    assert done.encoding("a") is not None
    assert done.encoding("b") is None


def test_a_bias_added_to_a_product_is_part_of_it(build, quantize, weights, jetson):
    text = (
        "(float[N,5,6] x) => (float[N,5,6] y) { m = MatMul(x, w) b = Add(m, c) r = Relu(b) n = MatMul(r, w) "
        "k = Add(c, n) s = Add(k, r) y = MatMul(s, w) }"
    )
    done = quantize(build(text, opset=19, w=weights.of(6, 6), c=weights.of(6)), target=jetson)
    assert done.integer == {"m", "n", "y"}
    assert [done.encoding(name) for name in ("m", "b", "c", "n", "k")] == [None] * 5
    assert done.read("s", 1) == done.encoding("r")
    assert done.read("s", 0) is None


def test_a_float_stream_stays_float(build, quantize, weights, jetson):
    """A transformer's: nobody reads it in integers but through a normalization."""
    text = (
        "(float[N,5,6] x) => (float[N,5,6] y) { l = LayerNormalization(x, g) m = MatMul(l, w) s = Add(m, x) "
        "k = LayerNormalization(s, g) n = MatMul(k, w) y = Add(s, n) }"
    )
    done = quantize(build(text, opset=19, w=weights.of(6, 6), g=np.ones(6, np.float32)), target=jetson)
    assert done.integer == {"m", "n"}
    assert [done.encoding(name) for name in ("x", "m", "s", "n", "y")] == [None] * 5
    assert done.encoding("l") is not None


def test_a_stream_that_begins_at_a_product_stays_float(build, quantize, weights, jetson):
    """The patches of an image, say: a normalization reads them in float, so the addition does too."""
    text = (
        "(float[2,5,6] x) => (float[2,5,6] y) { e = MatMul(x, w) v = Reshape(e, shape) "
        "l = LayerNormalization(v, g) m = MatMul(l, w) s = Add(m, v) y = MatMul(s, w) }"
    )
    constants = {"w": weights.of(6, 6), "g": np.ones(6, np.float32), "shape": np.int64([2, 5, 6])}
    done = quantize(build(text, opset=19, **constants), target=jetson)
    assert done.integer == {"e", "m", "y"}
    assert [done.encoding("e"), done.encoding("v")] == [None, None]


def test_a_view_between_product_and_addition_changes_nothing(build, quantize, weights, jetson):
    text = (
        "(float[2,6,6] x) => (float[2,6,6] y) { a = MatMul(x, w) r = Relu(a) m = MatMul(r, w) "
        "v = Reshape(m, shape) s = Add(v, r) y = MatMul(s, w) }"
    )
    done = quantize(build(text, opset=19, w=weights.of(6, 6), shape=np.int64([2, 6, 6])), target=jetson)
    assert done.integer == {"a", "m", "y"}
    assert done.encoding("v") is None
    assert done.read("s", 1) is not None


def test_an_addition_of_two_that_were_written_reads_both_in_integers(on_jetson):
    body = (
        f"a = Conv{PADS}(x, w) r = Relu(a) b = Conv{PADS}(x, w) q = Relu(b) s = Add(r, q) "
        f"y = Conv{PADS}(s, w) z = Conv{PADS}(r, w) u = Conv{PADS}(q, w)"
    )
    done = on_jetson(image(body, "y, float[N,4,8,8] z, float[N,4,8,8] u"))
    assert "s" in done.integer
    assert None not in (done.read("s", 0), done.read("s", 1), done.encoding("s"))


def test_movers_behind_an_addition_move_integers(on_jetson):
    body = (
        f"a = Conv{PADS}(x, w) r = Relu(a) b = Conv{PADS}(r, w) s = Add(b, r) t = Relu(s) "
        f"m = MaxPool<kernel_shape=[3,3],pads=[1,1,1,1]>(t) c = Conv{PADS}(m, w) y = Add(c, m)"
    )
    done = on_jetson(image(body))
    assert "m" in done.integer
    assert done.encoding("t").scale == done.encoding("m").scale
    assert done.read("y", 1) == done.encoding("m")
    assert done.encoding("y") is None


def test_an_excluded_addition_reads_float(build, quantize, weights, jetson):
    body = f"e = Erf(x) b = Conv{PADS}(e, w) s = Add(b, e) y = Conv{PADS}(s, w)"
    model = build(image(body), opset=19, w=weights.of(4, 4, 3, 3))
    assert quantize(model, target=jetson).read("s", 1) is not None
    done = quantize(model, target=jetson, exclude=re.compile("Add"))
    assert [done.read("s", index) for index in range(2)] == [None, None]


def test_behind_a_float_product_nothing_is_encoded(build, quantize, weights, jetson):
    body = f"a = Conv{PADS}(x, w) r = Relu(a) b = Conv{PADS}(r, w) s = Add(b, r) y = Conv{PADS}(s, w)"
    model = build(image(body), opset=19, w=weights.of(4, 4, 3, 3))
    done = quantize(model, target=jetson, exclude=re.compile("Conv_b"))
    assert done.integer == {"a", "y"}
    assert done.encoding("r") is None


def test_results_that_nobody_reads_in_integers_are_float(on_jetson):
    done = on_jetson(image(f"a = Conv{PADS}(x, w) g = Sigmoid(a) y = Mul(a, g)"))
    assert done.integer == {"a"}
    assert done.encoding("a") is None


def test_a_graph_output_is_what_the_kernel_held_before_it_rounded(on_jetson):
    done = on_jetson(image(f"a = Conv{PADS}(x, w) y = Conv{PADS}(a, w)", "a, float[N,4,8,8] y"))
    assert done.read("y", 0) is not None
    assert output_encoding(done.value("a")) is None


def test_an_activation_before_a_quantizer_whose_zero_is_in_the_middle_clamps_integers(on_jetson):
    done = on_jetson(image(f"a = Conv{PADS}(x, w) r = Relu(a) y = Conv{PADS}(r, w)"))
    assert done.encoding("r").zero_point == 0
    (clip,) = (node for node in done.legal().graph if node.op_type == "Clip")
    assert [int(constant(limit)) for limit in clip.inputs[1:]] == [0, 127]
    assert clip.inputs[0].producer().op_type == "QuantizeLinear"
    assert clip.inputs[0].producer().inputs[0].producer().op_type == "Conv"


def test_branches_of_a_concatenation_share_one_scale(on_jetson, weights):
    body = f"a = Conv{PADS}(x, w) r = Relu(a) b = Conv{PADS}(x, w) c = Concat<axis=1>(r, b, r) y = Conv{PADS}(c, v)"
    done = on_jetson(image(body), v=weights.of(4, 12, 3, 3))
    assert len({float(done.encoding(name).scale) for name in ("r", "b", "c")}) == 1


def test_accumulations_name_product_and_skip(build, weights):
    body = f"a = Conv{PADS}(x, w) b = Conv{PADS}(x, w) s = Add(b, a) t = Add(s, x) u = Relu(t) y = Add(u, u)"
    model = build(image(body), opset=19, w=weights.of(4, 4, 3, 3))
    found = {node.outputs[0].name: one for node, one in accumulations(model.graph, PRODUCTS).items()}
    assert {name: (one.product.outputs[0].name, one.skip) for name, one in found.items()} == {"s": ("b", 1)}


def test_every_encoded_value_is_symmetric_and_its_scale_a_half(on_jetson):
    body = f"a = Conv{PADS}(x, w) r = Relu(a) b = Conv{PADS}(r, w) s = Add(b, r) t = Relu(s) y = Conv{PADS}(t, w)"
    done = on_jetson(image(body))
    reads = [
        encoding
        for node in done.model.graph
        for index in range(len(node.inputs))
        if (encoding := read_encoding(node, index)) is not None
    ]
    assert {one.dtype for one in reads} == {"int8"}
    for one in reads:
        assert not one.zero_point.any()
        assert all(float(np.float16(scale)) == scale for scale in one.scale.flat)
    assert all(encoding_of(node.outputs[0]) is None for node in done.model.graph if node.op_type == "Add")
    assert {compute_request(node) for node in done.model.graph if node.op_type == "Add"} == {None}
