"""What is tied to what, what is pinned and why."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from graphpress import ir
from graphpress.analysis import channels as channels_module
from graphpress.analysis.channels import Channels, propagate
from graphpress.analysis.shapes import concrete_shapes

IMAGE = {"x": [1, 3, 6, 6]}


def named(model: ir.Model, channels: Channels, name: str) -> Any:
    return channels.axes[next(value for value in channels.axes if value.name == name)]


def why(channels: Channels, axis: np.ndarray) -> set[str | None]:
    return {channels.classes.reason(int(number)) for number in axis}


def test_a_residual_add_ties_both_branches(build: Any) -> None:
    stem = build.conv("x", 3, 8)
    branch = build.conv(stem, 8, 8)
    model = build.model(IMAGE, [build.conv(build("Add", stem, branch), 8, 2)])
    channels = propagate(model)
    first, second, third = (named(model, channels, name) for name in ("c0", "c2", "c4"))
    roots = channels.classes.resolve
    assert roots(first[0]).all()
    assert (
        roots(first[0]).tolist() == roots(second[0]).tolist() == roots(second[1]).tolist() == roots(third[1]).tolist()
    )


def test_what_is_too_large_to_follow_stays(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build.conv("x", 3, 8)
    second = build.conv(first, 8, 8)
    model = build.model(IMAGE, [build.conv(second, 8, 2)])
    followed = propagate(model)
    assert why(followed, named(model, followed, "c2")[0]) == {None}
    monkeypatch.setattr(channels_module, "MOST_POSITIONS", 80)
    cut = propagate(model)
    assert not cut.classes.resolve(named(model, cut, "c0")[0]).any()
    assert any("unknown shape of" in note for note in cut.notes)


def test_inputs_and_outputs_are_pinned_with_their_names(build: Any) -> None:
    hidden = build.conv("x", 3, 8)
    model = build.model(IMAGE, [build.conv(hidden, 8, 2)])
    channels = propagate(model)
    first, last = named(model, channels, "c0"), named(model, channels, "c2")
    assert why(channels, first[1]) == {"the graph input x"}
    assert why(channels, last[0]) == {"the graph output v1"}
    assert why(channels, first[0]) == {None}


@pytest.mark.parametrize("hole", ["x", "v0", "v1", "v2"])
def test_what_is_tied_to_an_unknown_shape_stays(build: Any, hole: str) -> None:
    hidden = build("Relu", build.conv("x", 3, 8))
    model = build.model(IMAGE, [build.conv(hidden, 8, 2)])
    known = {name: dims for name, dims in concrete_shapes(model).items() if name != hole}
    for item in (*model.graph.inputs, *(output for node in model.graph for output in node.outputs)):
        item.shape = None
    channels = propagate(model, known)
    first = named(model, channels, "c0")[0] if hole != "v2" else named(model, channels, "c2")[0]
    assert not channels.classes.resolve(first).any()
    assert all(f"unknown shape of {hole}" in reason for reason in why(channels, first))
    assert any(f"unknown shape of {hole}" in note for note in channels.notes)


def test_a_weight_has_the_shape_of_its_tensor_whatever_is_known_of_it(build: Any) -> None:
    model = build.model(IMAGE, [build.conv(build.conv("x", 3, 8), 8, 2)])
    known = {name: dims for name, dims in concrete_shapes(model).items() if name != "c0"}
    assert propagate(model, known).classes.resolve(named(model, propagate(model, known), "c0")[0]).all()


def test_an_output_of_unknown_shape_is_not_narrowed(build: Any) -> None:
    """Its rule ties its axes without looking at its shape: what it is written by stays all the same."""
    model = build.model({"x": [1, 4]}, [build("MatMul", "x", build.constant(np.ones((4, 6), np.float32)))])
    model.graph.outputs[0].shape = None
    channels = propagate(model, {"x": (1, 4)})
    assert not channels.classes.resolve(named(model, channels, "c0")[1]).any()


def test_an_operand_of_unknown_shape_holds_what_it_meets(build: Any) -> None:
    """A bias that is computed: were it taken for absent, the channels that it is added to would go without it."""
    weight = build.constant(np.ones((4, 6), np.float32))
    bias = build("Identity", build.constant(np.ones(6, np.float32)))
    hidden = build("Gemm", "x", weight, bias)
    model = build.model({"x": [1, 4]}, [build("MatMul", hidden, build.constant(np.ones((6, 2), np.float32)))])
    known = {name: dims for name, dims in concrete_shapes(model).items() if name != bias}
    value = next(output for node in model.graph for output in node.outputs if output.name == bias)
    value.shape = None
    channels = propagate(model, known)
    assert not channels.classes.resolve(named(model, channels, weight)[1]).any()


def test_concat_keeps_the_parts_apart(build: Any) -> None:
    parts = [build.conv("x", 3, 4), build.conv("x", 3, 6)]
    model = build.model(IMAGE, [build.conv(build("Concat", *parts, axis=1), 10, 2)])
    channels = propagate(model)
    joined = channels.classes.resolve(named(model, channels, "c4")[1])
    first, second = (channels.classes.resolve(named(model, channels, name)[0]) for name in ("c0", "c2"))
    assert joined.tolist() == [*first, *second]
    assert len(set(joined.tolist())) == 10


def test_flatten_into_gemm_repeats_a_channel_over_space(build: Any) -> None:
    flat = build("Flatten", build.conv("x", 3, 4))
    model = build.model(IMAGE, [build("Gemm", flat, build.weight(144, 2))])
    channels = propagate(model)
    rows = channels.classes.resolve(named(model, channels, "c2")[0]).reshape(4, 36)
    assert (rows == rows[:, :1]).all()
    assert len(set(rows[:, 0].tolist())) == 4


def test_depthwise_convolution_needs_no_constraint_and_grouped_does(build: Any, new_build: Any) -> None:
    depthwise = build.model(IMAGE, [build.conv(build.conv(build.conv("x", 3, 8), 8, 8, 3, group=8), 8, 2)])
    assert propagate(depthwise).classes.products == []
    other = new_build(1)
    grouped = other.model(IMAGE, [other.conv(other.conv(other.conv("x", 3, 8), 8, 8, 3, group=2), 8, 2)])
    assert [len(product.outer) for product in propagate(grouped).classes.products] == [2, 2]


@pytest.mark.parametrize("op_type", ["LayerNormalization", "RMSNormalization"])
def test_statistics_pin_unless_waived(op_type: str, build: Any) -> None:
    hidden = build(op_type, build("MatMul", "x", build.weight(6, 10)), build.weight(10))
    model = build.model({"x": [2, 5, 6]}, [build("MatMul", hidden, build.weight(10, 3))])
    kept = propagate(model)
    assert why(kept, named(model, kept, "c0")[1]) == {f"statistics of {op_type} n1"}
    waived = propagate(model, keep_statistics=False)
    assert why(waived, named(model, waived, "c0")[1]) == {None}


@pytest.mark.parametrize(("opset", "reason"), [(23, None), (11, "the axis that is normalized of Softmax n1")])
def test_softmax_before_opset_13_normalizes_all_axes_from_its_own_on(opset: int, reason: str, build: Any) -> None:
    hidden = build("Softmax", build("Transpose", build.conv("x", 3, 4), perm=[0, 2, 1, 3]), axis=1)
    hidden = build("Transpose", hidden, perm=[0, 2, 1, 3])
    build.nodes[1].name, build.nodes[2].name = "turn", "n1"
    model = build.model(IMAGE, [build.conv(hidden, 4, 2)], opset=opset)
    channels = propagate(model)
    assert why(channels, named(model, channels, "c0")[0]) == {reason}


def test_an_operator_outside_the_table_freezes_what_it_reads(build: Any) -> None:
    hidden = build("Mystery", build.conv("x", 3, 4), domain="com.example")
    proto = build.proto(IMAGE, [build("Relu", hidden)])
    proto.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    model = ir.from_proto(proto)
    channels = propagate(model)
    assert why(channels, named(model, channels, "c0")[0]) == {"n1: no axis rule for Mystery"}
    assert channels.notes[0] == "n1: no axis rule for Mystery"


def test_what_a_subgraph_captures_is_pinned(build: Any) -> None:
    hidden = build.conv("x", 3, 4)

    def branch(name: str, op_type: str) -> onnx.GraphProto:
        out = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        return onnx.helper.make_graph([onnx.helper.make_node(op_type, [hidden], [name])], name, [], [out])

    chosen = build(
        "If", build.constant(np.array(True)), then_branch=branch("yes", "Relu"), else_branch=branch("no", "Abs")
    )
    model = build.model(IMAGE, [build.conv(chosen, 4, 2)])
    channels = propagate(model)
    assert why(channels, named(model, channels, "c0")[0]) == {"a subgraph of n1"}


def test_run_time_indices_pin_only_the_indexed_axis(build: Any) -> None:
    picked = build("ArgMax", "x", axis=1, keepdims=0)
    rows = build("Gather", build.weight(3, 10), picked, axis=0)
    model = build.model({"x": [2, 3, 5]}, [build("MatMul", rows, build.weight(10, 4))])
    channels = propagate(model)
    table = named(model, channels, "c0")
    assert why(channels, table[0]) == {"an axis indexed at run time of Gather n1"}
    assert why(channels, table[1]) == {None}


def test_coordinates_pin_only_what_they_index(build: Any) -> None:
    table = build.weight(3, 4, 10)
    rows = build("GatherND", table, build("Cast", "x", to=onnx.TensorProto.INT64))
    model = build.model({"x": [5, 2]}, [build("MatMul", rows, build.weight(10, 4))])
    channels = propagate(model)
    first, second, free = named(model, channels, table)
    assert why(channels, first) == why(channels, second) == {"an axis indexed by coordinates of GatherND n1"}
    assert why(channels, free) == {None}


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
def test_channels_that_are_padded_with_others_stay(mode: str, build: Any) -> None:
    """What is copied from a neighbor goes with it, which would shift what is copied; a constant is on its own."""
    stem = build.conv("x", 3, 4)
    wide = build("Pad", stem, build.constant(np.array([0, 2, 0, 0, 0, 2, 0, 0])), mode=mode)
    model = build.model(IMAGE, [build.conv(wide, 8, 4)])
    channels = propagate(model)
    free = mode == "constant"
    assert channels.classes.resolve(named(model, channels, wide)[1]).all() == free
    assert why(channels, named(model, channels, stem)[1]) == {None if free else "a padded axis of Pad n1"}


def test_integer_weights_shrink_and_integer_parameters_do_not(build: Any) -> None:
    scale, zero = build.constant(np.full(8, 0.1, np.float32)), build.constant(np.zeros(8, np.int8))
    kernel = build.constant(build.random.integers(-9, 9, (8, 3, 1, 1), np.int8))
    hidden = build("Conv", "x", build("DequantizeLinear", kernel, scale, zero, axis=0))
    model = build.model(IMAGE, [build.conv(hidden, 8, 2)])
    channels = propagate(model)
    roots = channels.classes.resolve
    assert roots(named(model, channels, "c2")[0]).all()
    assert roots(named(model, channels, "c2")[0]).tolist() == roots(named(model, channels, "c0")[0]).tolist()


def test_work_is_linear_in_the_graph(new_build: Any, work: Any) -> None:
    def calls(length: int) -> int:
        build = new_build(0)
        value = build.conv("x", 3, 8)
        for _ in range(length):
            value = build("Relu", build("Add", value, value))
        model = build.model(IMAGE, [value])
        shapes = {node.outputs[0].name or "": (1, 8, 6, 6) for node in model.graph}
        return work(lambda: propagate(model, shapes))

    assert calls(2000) < 4.4 * calls(500)


@pytest.mark.skipif("GRAPHPRESS_DATA" not in os.environ, reason="GRAPHPRESS_DATA names the folder of real models")
@pytest.mark.parametrize("name", ["resnet20_cifar10", "mobilenet_v1_0.25_224", "mnist_opt", "basic_pitch_nmp"])
def test_real_models_have_free_channels_and_no_unknown_node(name: str) -> None:
    model = ir.load(Path(os.environ["GRAPHPRESS_DATA"]) / f"{name}.onnx")
    channels = propagate(model)
    assert channels.notes == []
    weights = [axes for value, axes in channels.axes.items() if ir.is_constant(value)]
    assert sum(bool(channels.classes.resolve(axis).any()) for axes in weights for axis in axes) > 2
