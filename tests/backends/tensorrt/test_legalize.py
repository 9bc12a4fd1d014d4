"""Forms of a model: what is written in which type, that nothing is left over, and that all say the same.

Two models go through them: one that was quantized here, and ones that onnxruntime quantized before they came.
"""

from dataclasses import replace

import numpy as np
import onnx
import onnx.parser
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from graphpress import optimize
from graphpress.backends.tensorrt.backend import TensorRTBackend
from graphpress.backends.tensorrt.build import BuildRequest, build
from graphpress.backends.tensorrt.canonicalize import canonical_encoding, canonicalize
from graphpress.backends.tensorrt.engine_layers import types_of_nodes
from graphpress.backends.tensorrt.legalize import (
    canonical_form,
    implicit_form,
    rounded_form,
    strong_form,
    weak_form,
)
from graphpress.backends.tensorrt.lint import Device
from graphpress.backends.tensorrt.toolchain import find_toolchain
from graphpress.cli.main import main
from graphpress.ir import (
    DataType,
    Editor,
    Tensor,
    clone,
    constant,
    from_proto,
    graphs,
    load,
    producer,
    save,
    serialize,
    to_proto,
)
from graphpress.ir.encoding import (
    AffineEncoding,
    EncodedTensor,
    dequantize_array,
    encoding_of,
    integer_dtype,
    is_annotated,
    override_use,
    read_encoding,
    set_encoding,
    set_float_type,
)
from graphpress.manager.contract import Context
from graphpress.manager.evaluator import NoEvaluator
from graphpress.manager.manager import Manager
from graphpress.manager.prepare import prepare
from graphpress.manager.recipe import from_text
from graphpress.models import build as build_family
from graphpress.runtime import Session
from graphpress.targets import load_target

FORMS = {"strong": strong_form, "weak": weak_form, "implicit": implicit_form, "rounded": rounded_form}
QDQ = ("QuantizeLinear", "DequantizeLinear")
FLOATS = (DataType.FLOAT, DataType.FLOAT16, DataType.BFLOAT16)
FLIPS = 0.05
"""How far other roundings between the layers move an output, as a part of the largest one: a number near the middle
between two of an eight-bit grid falls to the other side, a step of 1/127, and twenty layers add such steps up."""

needs_compiler = pytest.mark.skipif(
    find_toolchain("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed: pip install 'graphpress[tensorrt]'"
)


def small_resnet():
    return build_family("resnet", depth=18, width=8, image=32)


def prepared_resnet():
    model = small_resnet()
    prepare(model, {})
    return model


def feed(count=2):
    return {"input": np.random.default_rng(7).normal(size=(count, 3, 32, 32)).astype(np.float32)}


def passed(model, passes, target="jetson"):
    """A model after some passes, without data that judges them."""
    manager = Manager(Context(load_target(target), model, calibration=[feed(4)]), NoEvaluator(), (), "none")
    return manager.run(model, from_text(passes)).checkpoints[-1].model


@pytest.fixture(scope="module")
def annotated():
    return passed(prepared_resnet(), "raise_opset{to=19},cleanup,fuse,quantize,reduce_precision")


def canonical(model):
    return canonical_form(model).model


def simulated(model, target):
    return TensorRTBackend().prepare(model, load_target(target)).simulation


def nodes(model, *op_types):
    return [node for graph in graphs(model) for node in graph if not op_types or node.op_type in op_types]


def run(model, inputs=None):
    return Session(model).run(feed() if inputs is None else inputs)["logits"]


def near(one, other, part):
    return bool(np.abs(one - other).max() <= part * np.abs(other).max())


# -- limits on float types -------------------------------------------------------------------------------------


RECURRENT = """<ir_version: 10, opset_import: ["": 17]> g (float[5,2,8] x, int32[2] lengths) => (float[2,4] y) {
    e = MatMul (x, w)
    , h = LSTM <hidden_size=8> (e, wi, wr, , lengths)
    s = Squeeze (h, first)
    y = MatMul (s, head)
}"""


BETWEEN = """<ir_version: 10, opset_import: ["": 17]> g (float[5,2,8] x, int32[2] lengths) => (float[5,1,2,8] y) {
    h = LSTM <hidden_size=8> (x, wi, wr, , lengths)
    s = Squeeze (h, first)
    y = LSTM <hidden_size=8> (s, wi, wr, , lengths)
}"""


def in_half_precision(text):
    proto = onnx.parser.parse_model(text)
    shapes = {"w": (8, 8), "wi": (1, 32, 8), "wr": (1, 32, 8), "head": (8, 4)}
    arrays = {name: np.full(shape, 0.1, np.float32) for name, shape in shapes.items()} | {
        "first": np.array([0 if text == RECURRENT else 1])
    }
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    model = from_proto(proto)
    prepare(model, {})
    for node in model.graph:
        set_float_type(node, "float16")
    return model


@pytest.fixture(scope="module")
def recurrent():
    return in_half_precision(RECURRENT)


def test_what_the_parser_takes_in_float32_only_computes_in_it(recurrent):
    form = canonical_form(recurrent, Device.of(load_target("jetson")))
    assert [(refusal.where, "in float32 only" in refusal.why) for refusal in form.widened] == [("LSTM_h", True)]
    types = {node.op_type: node.inputs[0].dtype for node in nodes(strong_form(form.model), "LSTM", "MatMul")}
    assert types == {"LSTM": DataType.FLOAT, "MatMul": DataType.FLOAT16}
    assert canonical_form(recurrent).widened == ()


def test_what_moves_data_between_those_does_too():
    form = canonical_form(in_half_precision(BETWEEN), Device.of(load_target("jetson")))
    assert [refusal.where for refusal in form.widened] == ["LSTM_h", "LSTM_y", "Squeeze_s"]


# -- a model that was quantized here --------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMS)
def test_a_form_is_a_whole_model_and_the_given_one_stays(annotated, name):
    before = serialize(annotated)
    form = FORMS[name](canonical(annotated))
    assert serialize(annotated) == before
    items = [item for graph in graphs(form) for node in graph for item in (node, *node.outputs)]
    items += [*form.graph.inputs, *form.graph.initializers.values()]
    assert not any(map(is_annotated, items))
    onnx.checker.check_model(to_proto(form), full_check=True)
    assert [(one.name, one.dtype) for one in (*form.graph.inputs, *form.graph.outputs)] == [
        ("input", DataType.FLOAT),
        ("logits", DataType.FLOAT),
    ]
    assert np.isfinite(run(form)).all()


@pytest.mark.parametrize(
    ("name", "inside", "quantized"),
    [
        ("strong", DataType.FLOAT16, True),
        ("weak", DataType.FLOAT, True),
        ("implicit", DataType.FLOAT, False),
        ("rounded", DataType.FLOAT, True),
    ],
)
def test_types_stand_in_the_model(annotated, name, inside, quantized):
    form = FORMS[name](canonical(annotated))
    proto = onnx.shape_inference.infer_shapes(to_proto(form), strict_mode=True)
    known = {value.name: value.type.tensor_type.elem_type for value in proto.graph.value_info}
    made = {known[node.outputs[0].name] for node in nodes(form, "Conv", "Relu", "Add", "DequantizeLinear")}
    assert made == {int(inside)}
    scales = {node.inputs[1].dtype for node in nodes(form, *QDQ) if not node.inputs[0].is_graph_input()}
    assert scales == ({inside} if quantized else set())
    assert bool(nodes(form, "Cast")) is (name in ("strong", "rounded"))


def test_what_onnx_runtime_cannot_compute_is_simulated():
    model = passed(prepared_resnet(), "reduce_precision{to=bfloat16}")
    prepared = TensorRTBackend().prepare(model, load_target("jetson"))
    assert DataType.BFLOAT16 in {value.dtype for value in prepared.delivered.graph.initializers.values()}
    assert DataType.BFLOAT16 not in {value.dtype for value in prepared.simulation.graph.initializers.values()}
    assert np.isfinite(run(prepared.simulation)).all()


def test_forms_agree(annotated):
    strong, weak = run(strong_form(annotated)), run(weak_form(annotated))
    assert near(strong, weak, FLIPS)
    assert near(run(rounded_form(annotated)), strong, FLIPS)
    assert np.array_equal(run(simulated(annotated, "jetson")), strong)
    assert np.array_equal(run(simulated(annotated, "jetson{jetpack=5.1}")), weak)
    assert np.array_equal(run(implicit_form(annotated)), run(annotated))


def test_both_forms_have_one_grid(annotated):
    def grids(form):
        return sorted(
            tuple(constant(node.inputs[1]).astype(np.float64).reshape(-1)) for node in nodes(form, "DequantizeLinear")
        )

    assert grids(strong_form(annotated)) == grids(weak_form(annotated))


def test_what_was_quantized_here_needs_no_other_form(annotated):
    form = canonical_form(annotated)
    assert not form.changed
    assert serialize(form.model) == serialize(annotated)


# -- models that onnxruntime quantized ------------------------------------------------------------------------

SYMMETRIC = {"ActivationSymmetric": True, "WeightSymmetric": True}

VARIANTS = {
    "int8": ("QInt8", "QInt8", SYMMETRIC),
    "uint8 around 128": ("QUInt8", "QUInt8", SYMMETRIC),
    "uint8 activations": ("QUInt8", "QInt8", SYMMETRIC),
}
"""Types of activations and weights, and further options; each comes with biases in int32."""


def quantized(folder, activations, weights, options=None, per_channel=True):
    """The small resnet with its normalizations folded, quantized by onnxruntime."""
    from onnxruntime import quantization

    class Reader:
        left = iter([feed(), feed(3)])

        def get_next(self):
            return next(self.left, None)

    source, path = save(passed(prepared_resnet(), "fuse"), folder / "float.onnx")[0], folder / "quantized.onnx"
    quantization.quantize_static(
        source,
        path,
        Reader(),
        quant_format=quantization.QuantFormat.QDQ,
        activation_type=quantization.QuantType[activations],
        weight_type=quantization.QuantType[weights],
        per_channel=per_channel,
        extra_options=options,
    )
    return path


@pytest.fixture(scope="module", params=VARIANTS)
def arrived(request, tmp_path_factory):
    """A file that is quantized already."""
    return quantized(tmp_path_factory.mktemp("arrived"), *VARIANTS[request.param])


@pytest.fixture(scope="module")
def asymmetric(tmp_path_factory):
    return quantized(tmp_path_factory.mktemp("asymmetric"), "QUInt8", "QInt8")


def prepared(path):
    model = load(path)
    prepare(model, {})
    return model


def steps(model):
    """Of every dequantizer, by what it feeds: how many steps of which scale each number is from zero."""
    found = {}
    for node in nodes(model, "DequantizeLinear"):
        integers, zero = constant(node.inputs[0]), constant(node.inputs[2])
        scale = constant(node.inputs[1]).astype(np.float64)
        held = None if integers is None else (integers.astype(np.int64).T - zero.astype(np.int64)).T.tobytes()
        readers = sorted((use.node.name, use.idx) for use in node.outputs[0].uses())
        found[str(readers)] = (scale.reshape(-1).tolist(), held)
    return found


def stored_types(model):
    """Types of integers that are dequantized: those of their zero-points, or of constants."""
    return {(node.inputs[2:] or node.inputs)[0].dtype for node in nodes(model, "DequantizeLinear")}


def test_the_model_arrives_with_what_tensorrt_refuses(arrived):
    assert DataType.INT32 in stored_types(load(arrived))


@pytest.mark.parametrize("form", [strong_form, weak_form])
@pytest.mark.parametrize("ready", [load, prepared])
def test_grids_stay_where_they_are(arrived, form, ready):
    source, made = load(arrived), form(canonical(ready(arrived)))
    assert stored_types(made) == {DataType.INT8}
    assert not any(constant(node.inputs[2]).any() for node in nodes(made, *QDQ))
    before, after = steps(source), steps(made)
    biases = {name for name in before if name not in after}
    assert {name: before[name] for name in after} == after
    assert len(biases) == len(nodes(source, "Conv", "Gemm"))


def test_biases_become_the_floats_that_they_stand_for(arrived):
    source, made = load(arrived), strong_form(canonical(prepared(arrived)))
    products = {node.name: node for node in nodes(made, "Conv", "Gemm")}
    for node in nodes(source, "Conv", "Gemm"):
        integers, scale = (constant(value) for value in producer(node.inputs[2]).inputs[:2])
        bias = constant(products[node.name].inputs[2])
        assert bias.dtype == np.float32
        assert np.allclose(bias, integers.astype(np.float64) * scale, rtol=1e-6, atol=0)


def test_it_computes_as_it_did(arrived):
    assert near(run(weak_form(canonical(prepared(arrived)))), run(load(arrived)), FLIPS)


def test_the_given_model_stays(arrived):
    model = prepared(arrived)
    before = serialize(model)
    for form in FORMS.values():
        form(canonical(model))
    assert serialize(model) == before
    assert canonical_form(model).changed


def test_the_implicit_form_has_no_quantization_left(arrived):
    form = implicit_form(canonical(load(arrived)))
    assert not nodes(form, *QDQ)
    assert near(run(form), run(load(arrived)), 0.1)


def test_scales_that_float16_does_not_hold_stay_float32(arrived):
    model = canonical(passed(prepared(arrived), "raise_opset{to=19},reduce_precision"))
    form = strong_form(model)
    scales = [node.inputs[1] for node in nodes(form, *QDQ)]
    held = [np.array_equal(constant(one).astype(np.float16).astype(np.float32), constant(one)) for one in scales]
    assert not all(held)
    assert {one.dtype for one, exact in zip(scales, held, strict=True) if not exact} == {DataType.FLOAT}
    stored = {(tuple(scale), held) for scale, held in steps(form).values() if held is not None}
    assert stored == {(tuple(scale), held) for scale, held in steps(weak_form(model)).values() if held is not None}
    assert near(run(form), run(weak_form(model)), FLIPS)


@needs_compiler
@pytest.mark.parametrize("passes", ["eliminate_identity", "raise_opset{to=19},reduce_precision"])
def test_tensorrt_computes_it_in_integers(arrived, tmp_path, passes):
    form = strong_form(canonical(passed(prepared(arrived), passes)))
    path = save(form, tmp_path / "form.onnx")[0]
    profile = {"input": ((1, 3, 32, 32), (2, 3, 32, 32), (4, 3, 32, 32))}
    result = build(BuildRequest(path, "8.6", profile=profile))
    assert result.built, result.messages
    types = types_of_nodes(result.layers)
    assert {types[node.name] for node in nodes(form, "Conv", "Gemm")} == {"int8"}


def optimize_model(path, tmp_path, target="jetson", **options):
    return optimize(path, target=target, input_shape=["input=1x3x32x32"], output=tmp_path / "out", **options).report


@needs_compiler
def test_it_is_delivered_in_integers(arrived, tmp_path):
    report = optimize_model(arrived, tmp_path, passes="raise_opset{to=19},cleanup,reduce_precision")
    assert report.status == "delivered"
    assert {one.became for one in report.layers if one.op in ("Conv", "Gemm")} == {"int8"}
    assert stored_types(load(tmp_path / "out" / "model.onnx")) == {DataType.INT8}


@needs_compiler
@pytest.mark.parametrize("target", ["jetson", "jetson{jetpack=5.1}"])
def test_it_is_canonicalized_where_nothing_else_changes(arrived, tmp_path, target):
    report = optimize_model(arrived, tmp_path, target, recipe="cleanup")
    assert any("checked on proxy SM80/86" in note for note in report.notes)
    assert stored_types(load(tmp_path / "out" / "model.onnx")) == {DataType.INT8}


@needs_compiler
def test_the_accelerator_gets_its_ranges(arrived, tmp_path):
    optimize_model(arrived, tmp_path, "jetson{dla=on}", recipe="cleanup")
    known = {line.split(":")[0] for line in (tmp_path / "out" / "calibration.cache").read_text().splitlines()[1:]}
    assert {node.inputs[0].name for node in nodes(load(tmp_path / "out" / "model-float.onnx"), "Conv")} <= known


def test_asymmetric_grids_are_refused(asymmetric, tmp_path, capsys):
    out = tmp_path / "out"
    assert main([str(asymmetric), "--target", "jetson", "--recipe", "cleanup", "--output", str(out)]) == 3
    stderr = " ".join(capsys.readouterr().err.split())
    assert "came quantized with a zero-point that is not 0, and TensorRT 10.3 reads symmetric grids only" in stderr
    assert "'ActivationSymmetric': True" in stderr
    assert not out.exists()


# -- encodings ------------------------------------------------------------------------------------------------


def with_constant(integers, encoding):
    """A model with an encoded constant, and that constant."""
    text = '<ir_version: 10, opset_import: ["": 19]> g (float[1] x) => (float[1] y) { y = Relu(x) }'
    model = from_proto(onnx.parser.parse_model(text))
    value = Editor(model).add_constant(EncodedTensor(Tensor(integers), encoding, DataType.FLOAT), "w")
    set_encoding(value, encoding)
    return model, value


@given(st.sampled_from([2, 4, 8]), st.integers(1, 4), st.data())
def test_signed_integers_say_the_same(bits, channels, data):
    dtype, middle = f"uint{bits}", 2 ** (bits - 1)
    numbers = st.lists(st.integers(0, 2 * middle - 1), min_size=3 * channels, max_size=3 * channels)
    integers = np.array(data.draw(numbers)).reshape(channels, 3).astype(integer_dtype(dtype))
    scale = data.draw(st.lists(st.floats(2**-20, 1e3, width=32), min_size=channels, max_size=channels))
    encoding = AffineEncoding(dtype, tuple(scale), (middle,) * channels, 0 if channels > 1 else None, imported=True)
    model, value = with_constant(integers, encoding)
    before = value.const_value.numpy()
    assert canonicalize(model) == 1
    canonical_form = encoding_of(value)
    assert canonical_form == replace(encoding, dtype=f"int{bits}", zero_point=np.array(0))
    assert np.array_equal(value.const_value.numpy(), before)
    assert value.const_value.codes.numpy().dtype == integer_dtype(canonical_form.dtype)
    assert np.array_equal(dequantize_array(value.const_value.codes.numpy(), canonical_form), before)
    assert canonicalize(model) == 0


def test_uses_are_canonicalized_too(annotated):
    model = clone(annotated)
    node = nodes(model, "Conv")[0]
    around = AffineEncoding("uint8", (0.25,), (128,))
    override_use(node, 0, around)
    assert canonicalize(model) == 1
    assert read_encoding(node, 0) == AffineEncoding("int8", (0.25,), (0,))
    weight = node.inputs[1]
    override_use(node, 1, AffineEncoding("int32", (1e-6,), (0,)))
    assert encoding_of(weight) is not None
    assert canonicalize(model) == 1
    assert read_encoding(node, 1) is None


@pytest.mark.parametrize(
    ("dtype", "zero"), [("uint8", 0), ("uint8", 127), ("int8", -128), ("int8", 0), ("int16", 5), ("float8e4m3fn", 0)]
)
def test_what_has_no_other_words_stays(dtype, zero):
    encoding = AffineEncoding(dtype, (0.1,), (zero,))
    model = small_resnet()
    assert canonical_encoding(encoding, model.graph.inputs[0]) == encoding
