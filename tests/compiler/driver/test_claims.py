"""Annotations in a file are claims: believed where the file computes the same, else dropped with a word."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import graphpress
from graphpress.ir import from_proto, load, save
from graphpress.ir.encoding import (
    AffineEncoding,
    CastEncoding,
    CodebookEncoding,
    override_use,
    request_compute,
    set_codes,
    set_encoding,
    set_float_type,
)
from graphpress.runtime import Session

STEP = 0.02
ON_GRID = AffineEncoding("int8", np.float32(STEP))
COARSE = AffineEncoding("int8", np.float32(4))


def model(opset=17):
    """A small classifier with an Identity to clean up, whose second weight holds multiples of a step."""
    random = np.random.default_rng(0)
    weights = {
        "w": random.normal(size=(8, 16)).astype(np.float32),
        "v": random.integers(-127, 128, (16, 10)).astype(np.float32) * np.float32(STEP),
    }
    sides = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size])] for name, size in (("x", 8), ("y", 10))
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], "first"),
        helper.make_node("Identity", ["h"], ["i"], "idle"),
        helper.make_node("Relu", ["i"], ["r"], "relu"),
        helper.make_node("MatMul", ["r", "v"], ["y"], "head"),
    ]
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "mlp", *sides, constants)
    return from_proto(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", opset)]))


def value(model, name):
    made = (output for node in model.graph for output in node.outputs)
    return next(
        value for value in (*model.graph.inputs, *model.graph.initializers.values(), *made) if value.name == name
    )


def on(name, encoding):
    return lambda model: set_encoding(value(model, name), encoding)


def read_in(node, index, encoding):
    return lambda model: override_use(model.graph.node(node), index, encoding)


def held(encoding):
    """The second weight as codes, read in this encoding."""

    def annotate(model):
        weight = value(model, "v")
        set_codes(weight, np.round(weight.const_value.numpy() / STEP).astype(np.int8), ON_GRID)
        set_encoding(weight, encoding)

    return annotate


def lost(model):
    value(model, "h").metadata_props["graphpress.invalidated.v1"] = "it was edited"


@pytest.fixture
def optimize(tmp_path):
    """Annotate, save and clean up; the input file and the result."""

    def run(*annotations, opset=17, **options):
        annotated = model(opset)
        for annotate in annotations:
            annotate(annotated)
        save(annotated, tmp_path / "m.onnx")
        rows = {"x": np.random.default_rng(1).normal(size=(64, 8)).astype(np.float32)}
        options = {"recipe": "cleanup", "data": rows, "threads": 1, "allow_worse": True, **options}
        return graphpress.optimize(tmp_path / "m.onnx", output=tmp_path / "out", **options)

    return run


def answers(path):
    return Session(path)({"x": np.random.default_rng(2).normal(size=(32, 8)).astype(np.float32)})["y"]


def operators(result):
    return {node.op_type for node in onnx.load(result.output / "model.onnx").graph.node}


def refused(result):
    return {one.where: one.why for one in result.report.refusals if one.pass_name == "import" and "believed" in one.why}


FALSE = {
    "activation": (on("h", COARSE), "h"),
    "input": (on("x", COARSE), "x"),
    "output": (on("y", COARSE), "y"),
    "weight": (on("v", COARSE), "v"),
    "one use": (read_in("head", 0, COARSE), "head"),
    "one use of a weight": (read_in("head", 1, COARSE), "head"),
    "clipped": (on("h", AffineEncoding("int16", np.float32(1e-5))), "h"),
    "one channel": (on("v", AffineEncoding("int8", np.float32([STEP] * 9 + [4]), axis=1)), "v"),
    "no such form": (on("h", CastEncoding("bfloat16")), "h"),
    "codebook": (on("v", CodebookEncoding("uint4", np.linspace(-2, 2, 16, dtype=np.float32))), "v"),
    "other than its codes": (held(COARSE), "v"),
    "lost": (lost, "h"),
}


@pytest.mark.parametrize(("annotate", "where"), FALSE.values(), ids=FALSE)
@pytest.mark.parametrize("checked", [True, False])
def test_an_encoding_that_changes_what_the_file_computes_is_dropped_and_named(
    optimize, tmp_path, annotate, where, checked
):
    result = optimize(annotate, **({} if checked else {"data": None, "verify": "none"}))
    assert result.status == "delivered"
    assert list(refused(result)) == [where]
    assert "Identity" not in operators(result)
    assert "QuantizeLinear" not in operators(result)
    np.testing.assert_allclose(
        answers(result.output / "model.onnx"), answers(tmp_path / "m.onnx"), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("others", [(), (on("h", COARSE),)])
def test_a_weight_that_the_file_holds_as_codes_stays_so_whatever_else_is_dropped(optimize, tmp_path, others):
    result = optimize(held(ON_GRID), *others)
    assert result.status == "delivered"
    assert list(refused(result)) == ["h"] * len(others)
    tensors = {tensor.data_type for tensor in onnx.load(result.output / "model.onnx").graph.initializer}
    assert TensorProto.INT8 in tensors
    np.testing.assert_allclose(
        answers(result.output / "model.onnx"), answers(tmp_path / "m.onnx"), rtol=1e-4, atol=1e-4
    )


def test_an_encoding_that_changes_nothing_that_shows_is_believed(optimize, tmp_path):
    result = optimize(on("h", AffineEncoding("int16", np.float32(1e-3))), opset=21)
    assert refused(result) == {}
    assert "QuantizeLinear" in operators(result)
    np.testing.assert_allclose(
        answers(result.output / "model.onnx"), answers(tmp_path / "m.onnx"), rtol=1e-2, atol=1e-2
    )


@pytest.mark.parametrize(
    ("annotate", "said"),
    [
        (lambda model: set_float_type(model.graph.node("head"), "float16"), "the request for float16"),
        (lambda model: request_compute(model.graph.node("head"), "int8"), "the request for int8"),
        (lambda model: request_compute(model.graph.node("head"), "weight-only"), "the request for weight-only"),
        (lambda model: request_compute(model.graph.node("head"), "<b>"), "the request for <b>"),
    ],
)
def test_a_request_that_no_encoding_bears_out_is_dropped(optimize, annotate, said):
    result = optimize(annotate)
    assert said in refused(result)["head"]
    assert all(layer.asked == "float32" for layer in result.report.layers)


def test_a_request_that_an_encoding_bears_out_stays(optimize):
    result = optimize(held(ON_GRID), lambda model: request_compute(model.graph.node("head"), "weight-only"))
    assert refused(result) == {}
    assert [layer.asked for layer in result.report.layers if layer.name == "head"] == ["weight-only"]


def test_quantizers_that_are_nodes_are_no_claim(optimize, tmp_path):
    """What they compute is what the file computes, however coarse."""
    from graphpress.ir.qdq import materialize_qdq

    result = optimize(on("h", COARSE), held(ON_GRID), materialize_qdq)
    assert refused(result) == {}
    assert "QuantizeLinear" in operators(result)
    np.testing.assert_allclose(
        answers(result.output / "model.onnx"), answers(tmp_path / "m.onnx"), rtol=1e-4, atol=1e-4
    )


def test_a_kept_original_is_the_file_as_it_came(optimize, tmp_path):
    result = optimize(on("h", COARSE), recipe=None, passes="fold_batch_norm")
    assert result.status == "kept_original"
    assert (result.output / "model.onnx").read_bytes() == (tmp_path / "m.onnx").read_bytes()


def test_another_target_is_not_given_the_claim_either(optimize, tmp_path):
    result = optimize(on("h", COARSE), target="jetson", recipe=None, passes="fold_batch_norm")
    assert list(refused(result)) == ["h"]
    assert "QuantizeLinear" not in operators(result)


def test_of_a_model_that_answers_differently_each_time_nothing_is_believed(tmp_path):
    """Where nothing can be compared; the codes of a weight are what the file computes it from."""
    annotated = model()
    noise = annotated.graph.node("idle")
    noise.op_type = "RandomNormalLike"
    held(ON_GRID)(annotated)
    set_encoding(value(annotated, "h"), AffineEncoding("int8", np.float32(1e-3)))
    save(annotated, tmp_path / "m.onnx")
    result = graphpress.optimize(tmp_path / "m.onnx", recipe="cleanup", output=tmp_path / "out")
    assert refused(result).keys() == {"h"}
    assert "answers differently each time" in refused(result)["h"]


def test_a_decoding_node_reads_the_very_numbers_that_its_text_names(tmp_path):
    annotated = model()
    held(ON_GRID)(annotated)
    save(annotated, tmp_path / "m.onnx")
    proto = onnx.load(tmp_path / "m.onnx")
    node = next(node for node in proto.graph.node if node.op_type == "DequantizeLinear")
    proto.graph.initializer.append(numpy_helper.from_array(np.float32(9), "other"))
    node.input[1] = "other"
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(graphpress.errors.ModelError, match="does not decode it so"):
        load(tmp_path / "m.onnx")
