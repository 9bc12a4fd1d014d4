"""Shape inference against what ONNX Runtime computes, on symbolic, concrete, large and odd models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from graphpress import ir
from graphpress.analysis.shapes import concrete_shapes, infer_shapes, settle_shapes


def value(model: ir.Model, name: str) -> ir.Value:
    return next(output for node in model.graph for output in node.outputs if output.name == name)


def test_inner_values_get_symbolic_shapes_and_types(build: Any) -> None:
    hidden = build.conv("x", 3, 8)
    model = build.model({"x": ["N", 3, 6, 6]}, [build("Relu", hidden)])
    assert infer_shapes(model) == []
    assert [str(dim) if not isinstance(dim, int) else dim for dim in value(model, hidden).shape] == ["N", 8, 6, 6]
    assert value(model, hidden).dtype == ir.DataType.FLOAT


def test_a_declared_output_shape_stays(build: Any) -> None:
    proto = build.proto({"x": [2, 3, 6, 6]}, [build.conv("x", 3, 8)])
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info(proto.graph.output[0].name, 1, ["N", "C", 6, 6]))
    model = ir.from_proto(proto)
    infer_shapes(model)
    assert ir.dims_of(model.graph.outputs[0]) == (None, None, 6, 6)


def declare(proto: onnx.ModelProto, name: str, dims: Any) -> onnx.ModelProto:
    """The message with a declared shape, in place of one that is there already."""
    infos = proto.graph.output if name in [info.name for info in proto.graph.output] else proto.graph.value_info
    kept = [info for info in infos if info.name != name]
    del infos[:]
    infos.extend([*kept, helper.make_tensor_value_info(name, 1, dims)])
    return proto


@pytest.mark.parametrize("public", [True, False])
@pytest.mark.parametrize(
    ("dims", "corrected"),
    [
        (["N", 7, 6, 6], "[N, 8, 6, 6]"),
        (["N", 8, "H", 5], "[N, 8, 6, 6]"),
        (["N", 8], "[N, 8, 6, 6]"),
        ([], "[N, 8, 6, 6]"),
        (["N", 8, "H", 6], None),
        (["N", "C", "H", "W"], None),
        ([None, 8, 6, 6], None),
        ([4, 8, 6, 6], None),  # whether it is 4, nobody can tell before it runs
        (None, None),
    ],
)
def test_declarations_that_the_nodes_contradict_are_corrected(
    build: Any, dims: Any, corrected: str | None, public: bool
) -> None:
    hidden = build.conv("x", 3, 8)
    proto = build.proto({"x": ["N", 3, 6, 6]}, [hidden if public else build("Relu", hidden)])
    model = ir.from_proto(declare(proto, hidden, dims))
    refusals = settle_shapes(model)
    settled = [dim if isinstance(dim, int) else dim.value for dim in value(model, hidden).shape]
    if corrected is None:
        assert refusals == []
        if dims is not None:
            assert all(old in (None, new) or isinstance(old, str) for old, new in zip(dims, settled, strict=True))
    else:
        (refusal,) = refusals
        assert refusal.where == hidden
        assert "is not believed" in refusal.why
        assert refusal.why.endswith(f"computed as {corrected}")
        assert settled == ["N", 8, 6, 6] if len(dims) != 4 else settled[1:2] == [8] and settled[3] == 6
    assert settle_shapes(model) == []


def test_what_depends_on_a_wrong_declaration_is_corrected_with_it(build: Any) -> None:
    hidden = build.conv("x", 3, 8)
    after = build("Transpose", hidden, perm=[0, 2, 3, 1])
    model = ir.from_proto(declare(build.proto({"x": [1, 3, 6, 6]}, [build("Relu", after)]), hidden, [1, 7, 6, 6]))
    assert [refusal.where for refusal in settle_shapes(model)] == [hidden]
    assert ir.static_shape(value(model, after)) == (1, 6, 6, 8)


def test_a_wrong_declaration_of_a_constant_node_is_corrected(build: Any) -> None:
    offset = build("Constant", value=numpy_helper.from_array(np.ones((8, 1, 1), np.float32)))
    proto = build.proto({"x": [1, 3, 6, 6]}, [build("Add", build.conv("x", 3, 8), offset)])
    model = ir.from_proto(declare(proto, offset, [5]))
    assert [refusal.where for refusal in settle_shapes(model)] == [offset]
    assert ir.static_shape(value(model, offset)) == (8, 1, 1)


def test_shape_arithmetic_is_followed_through(build: Any) -> None:
    """Sizes that come from Shape, through operators that ONNX's own propagation does not follow."""
    shape = build("Shape", "x")
    height = build("Gather", shape, build.constant(np.array([2])))
    half = build(
        "Cast", build("Floor", build("Div", build("Cast", height, to=1), build.constant(np.float32([2])))), to=7
    )
    sizes = build("Concat", build.constant(np.array([0, 0])), half, build.constant(np.array([-1])), axis=0)
    result = build("Reshape", "x", sizes)
    last = build(
        "Resize",
        result,
        "",
        "",
        build(
            "Concat",
            build("Slice", build("Shape", result), *(build.constant(np.array([number])) for number in (0, 2))),
            half,
            half,
            axis=0,
        ),
    )
    model = build.model({"x": ["N", 3, "H", "W"]}, [last])
    shapes = concrete_shapes(model, {"x": (2, 3, 8, 6)})
    assert shapes[result] == (2, 3, 4, 12)
    assert shapes[last] == (2, 3, 4, 4)


def test_a_chain_of_computed_reshapes_is_followed_to_its_end(build: Any) -> None:
    """Each size depends on the result before it: channel shuffles of a network exported with dynamic sizes."""
    value, two = "x", build.constant(np.array(2))
    for _ in range(30):
        size = build("Gather", build("Shape", value), build.constant(np.array(1)), axis=0)
        half = build("Unsqueeze", build("Div", size, two), build.constant(np.array([0])))
        rest = [build.constant(np.array([number])) for number in (0, 2, -1)]
        table = build("Reshape", value, build("Concat", rest[0], rest[1], half, axis=0))
        value = build("Flatten", build("Transpose", table, perm=[0, 2, 1]))
    assert concrete_shapes(build.model({"x": ["N", "C"]}, [value]), {"x": (1, 12)})[value] == (1, 12)


def test_a_type_without_a_shape_does_not_mislead_inference(build: Any) -> None:
    """Shapes after symbolic inference are those before it."""
    parameters = [build("Constant", value_ints=[number]) for number in (0, 2**63 - 1, 2, 2)]
    model = build.model({"x": ["N", 3, 6, 6]}, [build("Slice", "x", *parameters)])
    before = concrete_shapes(model)
    infer_shapes(model)
    assert concrete_shapes(model) == before
    assert before[model.graph.outputs[0].name or ""] == (1, 3, 3, 6)


@pytest.mark.parametrize(
    ("declared", "given", "expected"),
    [
        (["N", 3, "H", "W"], {}, (1, 3, 224, 224)),
        (["N", "C", "H", "W"], {}, (1, 3, 224, 224)),
        (["batch", "length"], {}, (1, 128)),
        (["length", "batch", 7], {}, (1, 1, 7)),
        (["N", 3, "H", "W"], {"x": (5, 3, 16, 24)}, (5, 3, 16, 24)),
        ([None, 4], {}, (1, 4)),
    ],
)
def test_open_dimensions_take_the_given_size_or_the_default(
    declared: list[Any], given: dict[str, tuple[int, ...]], expected: tuple[int, ...], build: Any
) -> None:
    model = build.model({"x": declared}, [build("Relu", "x")])
    assert concrete_shapes(model, given)["v0"] == expected


def test_a_symbol_has_one_size_in_all_inputs(build: Any) -> None:
    model = build.model({"x": ["N", "L"], "y": ["N", "L"]}, [build("Add", "x", "y")])
    assert concrete_shapes(model, {"x": (3, 9)})["y"] == (3, 9)


def test_large_constants_are_not_read(build: Any, tmp_path: Path) -> None:
    """External data that is gone by then does not matter."""
    proto = build.proto({"x": [1, 64]}, [build("MatMul", "x", build.weight(64, 512))])
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    model = ir.load(tmp_path / "m.onnx")
    (tmp_path / "m.data").unlink()
    assert infer_shapes(model) == []
    assert concrete_shapes(model)["v0"] == (1, 512)


def test_small_external_constants_take_part_in_shape_arithmetic(build: Any, tmp_path: Path) -> None:
    proto = build.proto({"x": [2, 6]}, [build("Reshape", "x", build.constant(np.array([3, 4])))])
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    assert concrete_shapes(ir.load(tmp_path / "m.onnx"))["v0"] == (3, 4)


def test_values_inside_subgraphs_get_shapes(build: Any) -> None:
    def branch(name: str) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        nodes = [helper.make_node("Relu", ["x"], [f"{name}_inner"]), helper.make_node("Abs", [f"{name}_inner"], [name])]
        return helper.make_graph(nodes, name, [], [out])

    chosen = build("If", build.constant(np.array(True)), then_branch=branch("yes"), else_branch=branch("no"))
    model = build.model({"x": [2, 5]}, [chosen])
    infer_shapes(model)
    inner = [output for graph in model.graph.subgraphs() for node in graph for output in node.outputs]
    assert {ir.static_shape(output) for output in inner} == {(2, 5)}


def test_group_normalization_passes_its_shape_on(build: Any) -> None:
    hidden = build("GroupNormalization", build.conv("x", 3, 8), build.weight(8), build.weight(8), num_groups=4)
    model = build.model({"x": ["N", 3, 6, 6]}, [build("Relu", hidden)])
    infer_shapes(model)
    assert ir.dims_of(value(model, hidden)) == (None, 8, 6, 6)
    assert next(node for node in model.graph if node.op_type == "GroupNormalization").attributes


def test_sizes_that_depend_on_data_are_left_out(build: Any) -> None:
    model = build.model({"x": [4, 4]}, [build("NonZero", "x")])
    assert "v0" not in concrete_shapes(model)


def test_an_overridable_initializer_is_no_constant(build: Any) -> None:
    target = build.constant(np.array([8]))
    proto = build.proto({"x": [2, 4]}, [build("Relu", build("Reshape", "x", build("Abs", target)))])
    proto.graph.input.append(helper.make_tensor_value_info(target, onnx.TensorProto.INT64, [1]))
    assert "v1" not in concrete_shapes(ir.from_proto(proto))


def test_odd_models_do_not_raise(build: Any) -> None:
    """Shapes that contradict each other, an operator nobody knows."""
    wrong = build("MatMul", "x", build.weight(7, 7))
    proto = build.proto({"x": [2, 5]}, [build("Strange", wrong, domain="nowhere")])
    proto.opset_import.append(helper.make_opsetid("nowhere", 1))
    model = ir.from_proto(proto)
    infer_shapes(model)
    assert concrete_shapes(model)["x"] == (2, 5)


def test_agrees_with_the_runtime_on_every_value(build: Any) -> None:
    import onnxruntime

    hidden = build("MaxPool", build.conv("x", 3, 8, 3), kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")
    hidden = build("Concat", hidden, build("AveragePool", hidden, kernel_shape=[1, 1]), axis=1)
    flat = build("Flatten", build("GlobalAveragePool", hidden))
    proto = build.proto({"x": ["N", 3, 7, 9]}, [build("Softmax", build("Gemm", flat, build.weight(16, 5)))])
    shapes = concrete_shapes(ir.from_proto(proto), {"x": (2, 3, 7, 9)})
    names = [output for node in proto.graph.node for output in node.output]
    del proto.graph.output[:]
    proto.graph.output.extend(helper.make_tensor_value_info(name, 1, None) for name in names)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    results = session.run(names, {"x": np.zeros((2, 3, 7, 9), np.float32)})
    assert {name: shapes[name] for name in names} == {
        name: array.shape for name, array in zip(names, results, strict=True)
    }


def test_work_is_linear_in_the_graph(new_build: Any, work: Any) -> None:
    def calls(length: int) -> int:
        build = new_build(0)
        value = "x"
        for _ in range(length):
            value = build("Relu", value)
        model = build.model({"x": ["N", 4]}, [value])
        return work(lambda: (infer_shapes(model), concrete_shapes(model)))

    assert calls(2000) < 4.4 * calls(500)


def test_contents_are_shared_and_the_model_is_not_changed(build: Any) -> None:
    model = build.model({"x": [1, 64]}, [build("MatMul", "x", build.weight(64, 64))])
    weight = model.graph.initializers["c0"].const_value
    before = numpy_helper.to_array(ir.to_proto(model).graph.initializer[0])
    concrete_shapes(model)
    assert model.graph.initializers["c0"].const_value is weight
    assert np.array_equal(numpy_helper.to_array(ir.to_proto(model).graph.initializer[0]), before)
    assert [item.name for item in model.graph.inputs] == ["x"]


def test_packed_products_have_the_shape_of_products(build: Any) -> None:
    sizes = {"K": 6, "N": 8, "bits": 4, "block_size": 16}
    codes, scales = build.weight(8, 1, 8), build.weight(8, 1)
    hidden = build("MatMulNBits", build("Relu", "x"), codes, scales, domain="com.microsoft", **sizes)
    proto = build.proto({"x": ["N", 3, 6]}, [build("Relu", hidden)])
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    model = ir.from_proto(proto)
    infer_shapes(model)
    assert ir.dims_of(value(model, hidden))[1:] == (3, 8)
    assert value(model, hidden).dtype == ir.DataType.FLOAT
    assert concrete_shapes(model, {"x": (2, 3, 6)})[hidden] == (2, 3, 8)
