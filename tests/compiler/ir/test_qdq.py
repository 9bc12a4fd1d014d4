"""Importing Q/DQ pairs into annotations and materializing them again."""

import os
from collections import Counter
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from graphpress.errors import ModelError
from graphpress.ir import Editor, clone, graphs, load, save, to_proto, verify
from graphpress.ir.encoding import (
    AffineEncoding,
    encoding_of,
    override_use,
    read_encoding,
    set_encoding,
)
from graphpress.ir.qdq import import_qdq, materialize_qdq
from graphpress.models import build as build_family
from graphpress.runtime import Session

S = {"s": np.float32(0.1), "z": np.uint8(3)}
PAIR = "{b} = QuantizeLinear ({a}, s, z) {c} = DequantizeLinear ({b}, s, z)"


def pair(source, result):
    return PAIR.format(a=source, b=f"{result}_q", c=result)


def op_types(model):
    return Counter(node.op_type for graph in graphs(model) for node in graph)


def there_and_back(model, run, feed=None):
    """Import and materialize, through a file in between; the bits must be the same. Returns refusals and the result."""
    before = run(model, feed)
    imported = clone(model)
    refusals = import_qdq(imported).refusals
    verify(imported)
    materialized = clone(imported)
    materialize_qdq(materialized)
    verify(materialized)
    assert "graphpress.encoding" not in str(to_proto(materialized))
    after = run(materialized, feed)
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array)
    return imported, refusals, materialized


# -- graphs of their own ------------------------------------------------------------------------------------


def test_a_pair_and_a_weight(build, run):
    body = f"{pair('x', 'xd')} wd = DequantizeLinear <axis = 1> (w, ws, wz) y = MatMul (xd, wd)"
    text = f"(float[4,3] x) => (float[4,2] y) {{ {body} }}"
    weights = {"w": np.arange(6, dtype=np.int8).reshape(3, 2), "ws": np.float32([0.1, 0.2]), "wz": np.int8([0, 1])}
    model = build(text, **S, **weights)
    imported, refusals, materialized = there_and_back(model, run)
    assert refusals == []
    assert op_types(imported) == {"MatMul": 1}
    node = imported.graph[0]
    assert read_encoding(node, 0) == AffineEncoding("uint8", (0.1,), (3,), imported=True)
    assert read_encoding(node, 1).axis == 1
    assert op_types(materialized) == op_types(model)
    np.testing.assert_array_equal(materialized.graph.initializers["wd_1_quantized"].const_value.numpy(), weights["w"])


def test_pairs_at_graph_outputs(build, run):
    model = build(f"(float[4] x) => (float[4] y) {{ h = Neg (x) {pair('h', 'y')} }}", **S)
    imported, refusals, materialized = there_and_back(model, run)
    assert refusals == []
    assert op_types(imported) == {"Neg": 1}
    assert materialized.graph.outputs[0].name == "y"
    assert op_types(materialized) == op_types(model)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (pair("x", "y"), "graph output"),
        ("h = Neg (x) t = Abs (h) " + pair("h", "y"), "graph output"),
        ("r = Abs (s) h = QuantizeLinear (x, r, z) d = DequantizeLinear (h, r, z) y = Neg (d)", "computed at run time"),
        ("h = QuantizeLinear (x, s, z) d = DequantizeLinear (h, s, z2) y = Neg (d)", "differ"),
        (f"{pair('x', 'd')} i = Cast <to = 1> (d_q) y = Add (d, i)", "another reader"),
        ("h = Cast <to = 2> (x) d = DequantizeLinear (h, s, z) y = Neg (d)", "come from a computation"),
        ("y = DequantizeLinear (w, s, z)", "graph output"),
        (f"{pair('x', 'a')} {pair('a', 'b')} y = Neg (b)", "quantized already"),
    ],
)
def test_what_stays_is_refused_with_the_reason(build, run, body, reason):
    model = build(f"(float[4] x) => (float[4] y) {{ {body} }}", **S, z2=np.uint8(5), w=np.arange(4, dtype=np.uint8))
    _, refusals, materialized = there_and_back(model, run)
    assert len(refusals) == 1
    assert reason in refusals[0].why
    assert op_types(materialized) == op_types(model)


def test_chained_pairs_of_different_scale_keep_both_roundings(build, run):
    body = f"{pair('x', 'a')} b_q = QuantizeLinear (a, s2, z) b = DequantizeLinear (b_q, s2, z) y = Neg (b)"
    model = build(f"(float[64] x) => (float[64] y) {{ {body} }}", **S, s2=np.float32(0.37))
    _, _, materialized = there_and_back(model, run)
    assert op_types(materialized) == op_types(model)


def test_several_dequantizers_of_one_quantizer(build, run):
    body = f"{pair('x', 'a')} b = DequantizeLinear (a_q, s, z) y = Mul (a, b) w = Add (x, a)"
    model = build(f"(float[4] x) => (float[4] y, float[4] w) {{ {body} }}", **S)
    imported, refusals, materialized = there_and_back(model, run)
    assert refusals == []
    assert op_types(imported) == {"Mul": 1, "Add": 1}
    assert op_types(materialized)["QuantizeLinear"] == 1


def test_a_residual_that_reads_float_beside_a_quantized_use(build, run):
    body = f"h = Neg (x) {pair('h', 'd')} a = Abs (d) y = Add (a, h)"
    model = build(f"(float[4] x) => (float[4] y, float[4] h) {{ {body} }}", **S)
    imported, refusals, _ = there_and_back(model, run)
    assert refusals == []
    assert encoding_of(imported.graph.outputs[1]) is not None


def test_two_quantizers_of_one_value(build, run):
    body = f"{pair('x', 'a')} q2 = QuantizeLinear (x, s2, z) b = DequantizeLinear (q2, s2, z) y = Add (a, b)"
    model = build(f"(float[64] x) => (float[64] y) {{ {body} }}", **S, s2=np.float32(0.37))
    imported, refusals, materialized = there_and_back(model, run)
    assert refusals == []
    assert op_types(imported) == {"Add": 1}
    assert op_types(materialized) == op_types(model)


def test_inside_subgraphs(build, run):
    text = f"""(bool c, float[4] x) => (float[4] y) {{
        h = Neg (x)
        y = If (c) <then_branch = t () => (float[4] p) {{ {pair("h", "d")} p = Abs (d) }},
                    else_branch = e () => (float[4] q) {{ k = DequantizeLinear (w, s, z) q = Add (h, k) }}>
    }}"""
    model = build(text, **S, w=np.arange(4, dtype=np.uint8))
    for choice in (True, False):
        imported, refusals, _ = there_and_back(model, run, {"c": np.array(choice)})
        assert refusals == []
        assert op_types(imported) == {"Neg": 1, "If": 1, "Abs": 1, "Add": 1}


@pytest.mark.parametrize("opset", [10, 13, 19, 21])
def test_operator_sets(build, run, opset):
    model = build(f"(float[4] x) => (float[4] y) {{ {pair('x', 'd')} y = Neg (d) }}", opset=opset, **S)
    _, refusals, materialized = there_and_back(model, run)
    assert refusals == []
    assert op_types(materialized) == op_types(model)


def test_blocks_of_four_bits(build, run, tmp_path):
    import ml_dtypes

    random = np.random.default_rng(0)
    weights = {
        "w": random.integers(-8, 8, (6, 2)).astype(ml_dtypes.int4),
        "ws": random.random((3, 2)).astype(np.float32),
        "wz": np.zeros((3, 2), ml_dtypes.int4),
    }
    body = "d = DequantizeLinear <axis = 0, block_size = 2> (w, ws, wz) y = MatMul (x, d)"
    text = f"(float[4,6] x) => (float[4,2] y) {{ {body} }}"
    model = build(text, opset=21, **weights)
    imported, refusals, _ = there_and_back(model, run)
    assert refusals == []
    assert read_encoding(imported.graph[0], 1).scale.shape == (3, 2)
    save(imported, tmp_path / "m.onnx")
    again = load(tmp_path / "m.onnx")
    materialize_qdq(again)
    np.testing.assert_array_equal(run(again)["y"], run(model)["y"])


@pytest.mark.parametrize("opset", [19, 21])
def test_eight_bit_floats(build, run, opset):
    body = f"{pair('x', 'xd')} wd = DequantizeLinear (w, s, z) y = MatMul (xd, wd)"
    kind = ml_dtypes.float8_e4m3fn
    weights = {"s": np.float32(0.1), "z": np.array(0, kind), "w": np.arange(-3, 3).reshape(3, 2).astype(kind)}
    model = build(f"(float[4,3] x) => (float[4,2] y) {{ {body} }}", opset=opset, **weights)
    imported, refusals, materialized = there_and_back(model, run)
    assert refusals == []
    assert encoding_of(imported.graph.inputs[0]).dtype == "float8e4m3fn"
    (quantize,) = (node for node in materialized.graph if node.op_type == "QuantizeLinear")
    assert ("output_dtype" in quantize.attributes) == (opset >= 21)
    there_and_back(materialized, run)


def test_eight_bit_floats_that_overflow_to_nothing_stay_nodes(build, run):
    body = "q = QuantizeLinear <saturate = 0> (x, s, z) xd = DequantizeLinear (q, s, z) y = Neg (xd)"
    weights = {"s": np.float32(0.1), "z": np.array(0, ml_dtypes.float8_e4m3fn)}
    model = build(f"(float[4,3] x) => (float[4,3] y) {{ {body} }}", opset=19, **weights)
    _, refusals, _ = there_and_back(model, run)
    assert len(refusals) == 1


def test_a_single_scale_in_a_list_is_one_for_the_tensor(build, run):
    model = build("(float[4] x) => (float[4] y) { d = DequantizeLinear (w, s1, z1) y = Add (x, d) }",
                  w=np.arange(4, dtype=np.uint8), s1=np.float32([0.1]), z1=np.uint8([3]))  # fmt: skip
    imported = clone(model)
    assert import_qdq(imported).refusals == []
    assert read_encoding(imported.graph[0], 1).axis is None


def test_scales_that_do_not_fit_are_refused(build):
    model = build("(float[4] x) => (float[4] y) { d = DequantizeLinear <axis = 0> (w, s1, z1) y = Add (x, d) }",
                  w=np.arange(4, dtype=np.uint8), s1=np.float32([0.1, 0.2]), z1=np.uint8([3, 4]))  # fmt: skip
    assert "do not fit" in import_qdq(model).refusals[0].why


def test_half_precision_scales_are_refused(build):
    text = f"(float16[4] x) => (float16[4] y) {{ {pair('x', 'd')} y = Neg (d) }}"
    model = build(text, opset=19, s=np.float16(0.1), z=np.uint8(3))
    assert "not supported" in import_qdq(model).refusals[0].why


def test_constants_in_nodes_are_raised_too(build, run):
    text = """(float[2] x) => (float[2] y) {
        w = Constant <value = int8[2] {3, 4}> () d = DequantizeLinear (w, s) y = Add (x, d)
    }"""
    imported, refusals, _ = there_and_back(build(text, **S), run)
    assert refusals == []
    assert op_types(imported) == {"Add": 1}


def test_a_shared_weight_with_an_encoding_for_each_reader(build, run):
    """The second reader stands first: constants are decoded ahead of all readers."""
    text = "(float[2,2] x) => (float[2,2] y) { a = MatMul (x, w) y = MatMul (a, w) }"
    model = build(text, w=np.eye(2, dtype=np.float32))
    weight = model.graph.initializers["w"]
    set_encoding(weight, AffineEncoding("int8", (0.5,), (0,)))
    override_use(model.graph[0], 1, AffineEncoding("int8", (0.25,), (0,)))
    assert materialize_qdq(model) == 2
    verify(model)
    assert op_types(model)["DequantizeLinear"] == 2
    assert "w" not in model.graph.initializers


def test_a_stale_encoding_is_an_error(build):
    model = build("(float[2] x) => (float[2] y) { y = Add (x, w) }", w=np.float32([1, 2]))
    set_encoding(model.graph.initializers["w"], AffineEncoding("int8", (0.5,), (0,)))
    Editor(model).set_constant(model.graph.initializers["w"], np.float32([3, 4]))
    with pytest.raises(ModelError, match="was quantized and then changed"):
        materialize_qdq(model)


def test_an_encoded_input_that_is_an_output_too_keeps_its_name(build, run):
    model = build("(float[2] x) => (float[2] x, float[2] y) { y = Neg (x) }")
    set_encoding(model.graph.inputs[0], AffineEncoding("uint8", (0.5,), (3,)))
    materialize_qdq(model)
    verify(model)
    assert [value.name for value in (*model.graph.inputs, *model.graph.outputs)] == ["x", "x", "y"]


# -- models that onnxruntime quantized ----------------------------------------------------------------------


class Reader:
    """Made-up calibration data."""

    def __init__(self, session, count=2):
        random = np.random.default_rng(0)
        self.feeds = [
            {
                spec.name: random.uniform(0, 1.5, [dim if isinstance(dim, int) else 2 for dim in spec.dims]).astype(
                    spec.dtype
                )
                for spec in session.inputs
            }
            for _ in range(count)
        ]
        self.left = iter(self.feeds)

    def get_next(self):
        return next(self.left, None)


def quantized_by_onnxruntime(path, out, **options):
    from onnxruntime import quantization

    reader = Reader(Session(path))
    quantization.quantize_static(path, out, reader, quant_format=quantization.QuantFormat.QDQ, **options)
    return load(out), reader.feeds[0]


def check_same_graph(path, tmp_path, run, **options):
    model, feed = quantized_by_onnxruntime(path, tmp_path / "q.onnx", **options)
    imported, refusals, materialized = there_and_back(model, run, feed)
    assert op_types(materialized) == op_types(model)
    if not refusals:
        assert not {"QuantizeLinear", "DequantizeLinear"} & set(op_types(imported))
    return refusals


@pytest.mark.parametrize("per_channel", [True, False])
def test_the_real_resnet(tmp_path, run, per_channel):
    folder = os.environ.get("GRAPHPRESS_DATA")
    if not folder:
        pytest.skip("GRAPHPRESS_DATA does not name the folder with the real models")
    model = load(Path(folder) / "resnet20_cifar10.onnx")
    save(model, tmp_path / "m.onnx")
    assert check_same_graph(tmp_path / "m.onnx", tmp_path, run, per_channel=per_channel) == []


@pytest.mark.parametrize("family", ["bert", "unet", "mobilenet_v2", "control_flow"])
def test_built_models(tmp_path, run, family):
    save(build_family(family), tmp_path / "m.onnx")
    check_same_graph(tmp_path / "m.onnx", tmp_path, run)


def test_dedicated_pairs(tmp_path, run):
    save(build_family("resnet"), tmp_path / "m.onnx")
    options = {"DedicatedQDQPair": True}
    model, feed = quantized_by_onnxruntime(tmp_path / "m.onnx", tmp_path / "q.onnx", extra_options=options)
    there_and_back(model, run, feed)
