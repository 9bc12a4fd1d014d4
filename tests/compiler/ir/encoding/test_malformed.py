"""Annotations are data from outside: a file loads and verifies, or is one clear error of the model."""

import contextlib
import json

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from graphpress.cli.main import main
from graphpress.errors import ModelError
from graphpress.ir import clone, from_proto, serialize, to_proto, verify
from graphpress.ir.encoding import AffineEncoding, CodebookEncoding, encode_array, override_use, set_codes, set_encoding
from graphpress.ir.printer import print_model
from graphpress.ir.qdq import materialize_qdq
from graphpress.ir.sparsity import SPARSITY_KEY

BAD_INPUT = 3
BLOCKS = AffineEncoding("int4", np.ones((2, 6)), axis=0, block=32)
CODEBOOK = CodebookEncoding("uint4", np.linspace(-1, 1, 11))
KEYS = (
    "graphpress.encoding.v2", "graphpress.encoding.v1", "graphpress.encoding.v3", "graphpress.output.v1",
    "graphpress.invalidated.v1", "graphpress.codes.v2", "graphpress.stored.v2", "graphpress.use.v2.0",
    "graphpress.use.v2.1", "graphpress.use.v2.99", "graphpress.use.v2.", "graphpress.use.v2.99999999999999999999",
    "graphpress.use.v1.1", "graphpress.compute.v1", "graphpress.float.v1", SPARSITY_KEY, "graphpress.", "other",
)  # fmt: skip
SPARSITIES = (
    '{"pattern":"2:4","axis":0,"zeros":0.5}', '{"pattern":"half","axis":0,"zeros":0.5}', '{"pattern":"2:4"}',
    '{"pattern":"1:99999999999999999999","axis":0,"zeros":0}', '{"pattern":"2:4","axis":"a","zeros":null}',
    '{"pattern":"2:4","axis":9,"zeros":0}', '{"pattern":"unstructured","axis":0,"zeros":NaN}', '{"zeros":[]}',
)  # fmt: skip
TEXTS = (
    "", "{}", "[]", "null", "float", "nonsense", '"', "[" * 100_000, '{"kind":"magic","dtype":"int8"}',
    '{"kind":"affine"}', '{"kind":["affine"]}', '{"kind":"cast","dtype":"int8"}', '{"kind":"cast","dtype":"float8"}',
    '{"kind":"affine","dtype":"int8","axis":99999999999999999999999}', '{"kind":"quantized"}',
    '{"kind":"quantized","dtype":"int8","scale":[1,[2]],"zero_point":[0]}',
    '{"kind":"quantized","dtype":"int8","scale":["a"],"zero_point":[0]}',
    '{"kind":"quantized","dtype":"int8","scale":[1],"zero_point":[1e300]}',
    '{"kind":"quantized","dtype":"int8","scale":[1,2],"zero_point":[0,0],"axis":0,"block":3,"scale_shape":[7,7]}',
    '{"kind":"quantized","dtype":"int8","scale":[0.1,0.2],"zero_point":[0,0],"axis":7}',
    '{"codes":"w","encoding":"{}"}', '{"codes":7,"encoding":7}', *SPARSITIES,
)  # fmt: skip
FACTS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.just([1])
TENSORS = (
    numpy_helper.from_array(np.zeros(0, np.float32)), numpy_helper.from_array(np.float32([-1, np.nan])),
    numpy_helper.from_array(np.array(["a"], object)), numpy_helper.from_array(np.int64([[1]])),
    numpy_helper.from_array(np.full((64, 6), 7, np.uint8)),
    helper.make_tensor("", TensorProto.INT4, [2, 2], [1, 2, 3, 4]),
)  # fmt: skip


def annotated(build, encoding, opset=21):
    """A model with an encoding on a weight, on a use, on an input and on an output."""
    text = "(float[3,64] x) => (float[3,6] y) { h = MatMul (x, w) y = Relu (h) }"
    weight = np.random.default_rng(0).normal(size=(64, 6)).astype(np.float32)
    model = build(text, opset=opset, w=weight)
    value = model.graph.initializers["w"]
    if not getattr(encoding, "is_dynamic", False):
        set_codes(value, encode_array(weight, encoding), encoding)
    set_encoding(value, encoding)
    override_use(model.graph[0], 1, encoding)
    set_encoding(model.graph.inputs[0], AffineEncoding("uint8", 0.1, 3))
    set_encoding(model.graph.outputs[0], AffineEncoding("int32", 1 / 3, derived=True))
    return to_proto(model)


def annotations(proto):
    """Every entry of ours, wherever it stands."""
    items = [*proto.graph.input, *proto.graph.output, *proto.graph.value_info, *proto.graph.node]
    return [entry for item in items for entry in item.metadata_props if entry.key.startswith("graphpress.")]


def mutate_text(draw, text):
    """Another text, or the same with a fact changed, dropped or added."""
    try:
        facts = json.loads(text)
        assert isinstance(facts, dict)
    except (ValueError, AssertionError, RecursionError):
        return draw(st.sampled_from(TEXTS))
    if draw(st.booleans()):
        return draw(st.sampled_from(TEXTS) | st.text(max_size=20))
    fields = ["kind", "dtype", "scale", "zero_point", "table", "axis", "block", "imported", "codes", *facts]
    others = st.sampled_from(["affine", "codebook", "cast", "int4", "uint8", "float16", "float8e4m3fn", "w", "x", "h"])
    numbers = st.sampled_from([fact for fact in facts.values() if isinstance(fact, str)] or ["w"])
    field = draw(st.sampled_from(fields))
    if draw(st.booleans()):
        facts[field] = draw(FACTS | others | numbers)
    else:
        facts.pop(field, None)
    return json.dumps(facts)


def mutate(draw, proto):
    """Change one thing."""
    entries, tensors = annotations(proto), proto.graph.initializer
    match draw(st.integers(0, 5)):
        case 0 | 1 if entries:
            entry = draw(st.sampled_from(entries))
            entry.value = mutate_text(draw, entry.value)
        case 2 if entries:
            draw(st.sampled_from(entries)).key = draw(st.sampled_from(KEYS))
        case 3:
            items = [*proto.graph.input, *proto.graph.output, *proto.graph.value_info, *proto.graph.node]
            item = draw(st.sampled_from(items))
            item.metadata_props.add(key=draw(st.sampled_from(KEYS)), value=draw(st.sampled_from(TEXTS)))
        case 4 if tensors:
            tensor = draw(st.sampled_from(list(tensors)))
            name = tensor.name
            tensor.CopyFrom(draw(st.sampled_from([*TENSORS, *tensors])))
            tensor.name = name
        case _ if tensors:
            if draw(st.booleans()):
                del tensors[draw(st.integers(0, len(tensors) - 1))]
            else:
                draw(st.sampled_from(list(tensors))).name = draw(st.sampled_from(["x", "other", "w"]))


@pytest.mark.parametrize("opset", [21, 13])
def test_whatever_a_file_holds_it_loads_and_verifies_or_is_a_bad_model(build, encoding, opset):
    original = annotated(build, encoding, opset)

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.data())
    def check(data):
        proto = onnx.ModelProto()
        proto.CopyFrom(original)
        for _ in range(data.draw(st.integers(1, 3))):
            mutate(data.draw, proto)
        try:
            model = from_proto(proto)
        except ModelError as error:
            refusals.append(error)
            return
        verify(model)
        print_model(model)
        serialize(model)
        with contextlib.suppress(ModelError):
            materialize_qdq(clone(model))

    refusals = []
    check()
    assert refusals
    assert all(error.where and error.fix for error in refusals)


@pytest.fixture
def refused(build, tmp_path, capfd):
    """Run the command line on a file; it must say that the model is bad, in one error without a traceback."""

    def check(proto, says):
        onnx.save(proto, tmp_path / "m.onnx")
        for arguments in (
            ["inspect", str(tmp_path / "m.onnx")],
            [str(tmp_path / "m.onnx"), "--output", str(tmp_path / "o")],
        ):
            assert main(arguments) == BAD_INPUT
            text = capfd.readouterr().err
            assert text.count("error:") == 1, text
            assert "Traceback" not in text
            assert "unexpected" not in text
            assert "m.onnx" in text
            assert says in text
        assert not (tmp_path / "o").exists()

    return check


def test_two_scales_along_axis_seven_of_a_weight_of_two_axes(build, refused):
    """Once an IndexError, and a bug of ours."""
    model = build("(float[2,6] x) => (float[2,4] y) { y = MatMul (x, w) }", w=np.ones((6, 4), np.float32))
    text = '{"kind":"quantized","dtype":"int8","scale":[0.1,0.2],"zero_point":[0,0],"axis":7}'
    model.graph.initializers["w"].metadata_props["graphpress.encoding.v1"] = text
    refused(to_proto(model), "the encoding of w has scales along axis 7, and the tensor has 2 axes")
    with pytest.raises(ModelError) as raised:
        from_proto(to_proto(model))
    assert "start from the original model" in raised.value.fix


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0.5", "it is no JSON object"),
        ("{}", "it has no codes"),
        ('{"codes":"a","encoding":"b","kind":1}', "it has the unknown field 'kind'"),
        ('{"codes":{},"encoding":[]}', "its codes or its encoding are no text"),
    ],
)
def test_codes_beside_floats_that_are_none(build, text, why):
    model = build("(float[2,6] x) => (float[2,4] y) { y = MatMul (x, w) }", w=np.ones((6, 4), np.float32))
    model.graph.initializers["w"].metadata_props["graphpress.codes.v2"] = text
    with pytest.raises(ModelError) as raised:
        from_proto(to_proto(model))
    assert raised.value.what.endswith(f"({why})")


@pytest.mark.parametrize("text", TEXTS[:8])
def test_the_command_line_refuses_what_it_cannot_read(build, refused, text):
    proto = annotated(build, BLOCKS)
    next(entry for entry in annotations(proto) if entry.key == "graphpress.encoding.v2").value = text
    refused(proto, "unreadable encoding")


def test_a_missing_tensor(build, refused):
    proto = annotated(build, CODEBOOK)
    names = [tensor.name for tensor in proto.graph.initializer]
    del proto.graph.initializer[names.index("graphpress.numbers/0")]
    refused(proto, "there is no tensor 'graphpress.numbers/0'")


def test_a_code_beyond_the_table(build, refused):
    proto = annotated(build, CODEBOOK)
    for tensor in proto.graph.initializer:
        if tensor.data_type == TensorProto.UINT4:
            tensor.raw_data = b"\xff" * len(tensor.raw_data)
    refused(proto, "has the code 15, and its table 11 entries")


def test_a_node_that_decodes_otherwise_than_it_declares(build, refused):
    proto = annotated(build, AffineEncoding("int8", np.ones(6), axis=1))
    proto.graph.node[0].attribute[0].i = 0
    refused(proto, "the node does not decode it so")


def test_an_override_of_an_input_that_is_not_there(build, refused):
    proto = annotated(build, CODEBOOK)
    text = next(entry.value for entry in annotations(proto) if entry.key == "graphpress.encoding.v2")
    proto.graph.node[1].metadata_props.add(key="graphpress.use.v2.5", value=text)
    refused(proto, "overrides the encoding of input 5, which it does not have")


@pytest.mark.parametrize("text", SPARSITIES)
def test_sparsity_that_does_not_hold(build, refused, text):
    model = build("(float[2,6] x) => (float[2,4] y) { y = MatMul (x, w) }", w=np.ones((6, 4), np.float32))
    model.graph.initializers["w"].metadata_props[SPARSITY_KEY] = text
    refused(to_proto(model), "sparsity")
