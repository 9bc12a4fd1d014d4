"""Which units form which group, what is pinned and why, and what happens where an axis is a table of blocks."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from graphpress import ir
from graphpress.coupling import couple, remove, unshare
from graphpress.errors import GraphpressError, UsageError
from graphpress.models import build as build_model

IMAGE = {"x": (2, 3, 6, 6)}


def names(coupling):
    return {group.name: group.size for group in coupling.groups}


def test_a_chain_of_convolutions_has_a_group_for_each_inner_width(build):
    hidden = build.conv(build.conv("x", 3, 8), 8, 6)
    coupling = couple(build.model(IMAGE, [build.conv(hidden, 6, 4)]))
    assert names(coupling) == {"c0[0]": 8, "c2[0]": 6}
    assert [(axis.where, axis.size, axis.why) for axis in coupling.pinned] == [("c4[0]", 4, "the graph output v2")]
    first = coupling["c0[0]"]
    assert [(place.value.name, place.axis) for place in first.constants] == [("c0", 0), ("c1", 0), ("c2", 1)]
    assert [node.name for node in first.writers] == ["n0"]


def test_parts_of_a_concatenation_are_groups_of_their_own(build):
    joined = build("Concat", build.conv("x", 3, 4), build.conv("x", 3, 6), axis=1)
    coupling = couple(build.model(IMAGE, [build.conv(joined, 10, 4)]))
    assert names(coupling) == {"c0[0]": 4, "c2[0]": 6}
    reader = [place for place in coupling["c2[0]"].constants if place.value.name == "c4"]
    np.testing.assert_array_equal(reader[0].units, [-1] * 4 + [0, 1, 2, 3, 4, 5])


def test_parts_of_a_split_are_numbered(build):
    first, second = build("Split", build.conv("x", 3, 8), build.constant(np.array([3, 5])), outputs=2, axis=1)
    model = build.model(IMAGE, [build.conv(first, 3, 2), build.conv(second, 5, 2)])
    assert names(couple(model)) == {"c0[0]": 3, "c0[0]#2": 5}


def test_an_addition_ties_two_layers(build):
    total = build("Add", build.conv("x", 3, 8), build.conv("x", 3, 8))
    coupling = couple(build.model(IMAGE, [build.conv(total, 8, 4)]))
    assert names(coupling) == {"c0[0]": 8}
    assert [node.name for node in coupling["c0[0]"].writers] == ["n0", "n1"]


@pytest.mark.parametrize(("blocks", "units"), [("whole", 4), ("within", 3)])
def test_groups_of_a_convolution_go_whole_or_thin_out(build, blocks, units):
    hidden = build.conv(build.conv(build.conv("x", 3, 12), 12, 12, group=4), 12, 4)
    model = build.model(IMAGE, [hidden])
    coupling = couple(model, blocks=blocks)
    assert coupling.groups[0].size == units
    remove(model, coupling, {coupling.groups[0].name: np.arange(units) < 2})
    grouped = next(node for node in model.graph if node.name == "n1")
    assert grouped.attributes["group"].as_int() == (2 if blocks == "whole" else 4)


def test_an_input_that_a_rule_forgets_stays_whole(build, monkeypatch):
    """As if the rule of Conv knew nothing of biases."""
    from graphpress.ops import conv

    monkeypatch.setattr(conv, "unite_axis", lambda *_: None)
    hidden = build.conv("x", 3, 8)
    coupling = couple(build.model(IMAGE, [build.conv(hidden, 8, 4)]))
    assert "c1[0]" not in names(coupling)
    assert "not followed" in coupling.channels.classes.reason(int(next(
        axes[0][0] for value, axes in coupling.channels.axes.items() if value.name == "c1"
    )))  # fmt: skip


def test_blocks_must_be_a_known_word(build):
    model = build.model(IMAGE, [build.conv("x", 3, 4)])
    with pytest.raises(UsageError, match="blocks"):
        couple(model, blocks="some")


def test_left_alone_nodes_pin_what_is_tied_to_them(build):
    model = build.model(IMAGE, [build.conv(build.conv(build.conv("x", 3, 8), 8, 6), 6, 4)])
    coupling = couple(model, left_alone=lambda node: "asked for" if node.name == "n1" else None)
    assert names(coupling) == {}
    assert {axis.why for axis in coupling.pinned} == {"asked for", "the graph output v2"}


def test_a_shared_bias_ties_layers_until_it_is_unshared(build):
    bias, weights = build.weight(8), [build.weight(8, 3, 1, 1), build.weight(8, 8, 1, 1)]
    hidden = build("Conv", build("Conv", "x", weights[0], bias), weights[1], bias)
    model = build.model(IMAGE, [build.conv(hidden, 8, 4)])
    assert len(couple(model).groups) == 1
    assert unshare(model) == 1
    assert len(couple(model).groups) == 2
    assert unshare(model) == 0


def test_tied_matrices_stay_shared(build):
    table = build.weight(12, 8)
    hidden = build("MatMul", "x", build.weight(6, 8))
    model = build.model({"x": (2, 6)}, [build("Gemm", hidden, table, transB=1), build("Gemm", hidden, table, transB=1)])
    assert unshare(model) == 0


def test_masks_must_fit(build):
    model = build.model(IMAGE, [build.conv(build.conv("x", 3, 8), 8, 4)])
    coupling = couple(model)
    for mask in (np.ones(7, bool), np.zeros(8, bool), np.ones(8, int)):
        with pytest.raises(GraphpressError, match="do not fit"):
            remove(model, coupling, {"c0[0]": mask})
    with pytest.raises(GraphpressError):
        remove(model, coupling, {"no such group": np.ones(8, bool)})


def test_large_weights_on_disk_are_cut_when_they_are_saved(build, tmp_path):
    model = build.model(IMAGE, [build.conv(build.conv("x", 3, 64), 64, 4)])
    proto = ir.to_proto(model)
    import onnx

    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0, location="m.data")
    loaded = ir.load(tmp_path / "m.onnx")
    coupling = couple(loaded)
    remove(loaded, coupling, {"c0[0]": np.arange(64) < 16})
    assert isinstance(loaded.graph.initializers["c0"].const_value, ir.LazyTensor)
    whole = ir.constant(model.graph.initializers["c0"])
    np.testing.assert_array_equal(ir.constant(loaded.graph.initializers["c0"]), whole[:16])
    ir.save(loaded, tmp_path / "smaller.onnx")
    np.testing.assert_array_equal(ir.constant(ir.load(tmp_path / "smaller.onnx").graph.initializers["c0"]), whole[:16])


def test_work_grows_with_the_graph_and_no_faster(work):
    small, large = (build_model("nas", nodes=nodes, width=4) for nodes in (200, 800))

    def prune(model):
        coupling = couple(model)
        remove(model, coupling, {group.name: np.arange(group.size) < 1 for group in coupling.groups})

    grown = ir.count_nodes(large) / ir.count_nodes(small)
    assert work(lambda: prune(large)) < 1.5 * grown * work(lambda: prune(small))


def test_initializers_that_the_caller_may_override_are_named_with_the_reason(build):
    proto = build.proto(IMAGE, [build.conv(build.conv("x", 3, 8), 8, 4)])
    for tensor in proto.graph.initializer:
        proto.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    coupling = couple(ir.from_proto(proto))
    assert coupling.groups == ()
    assert ("c0[0]", "the graph input c0") in [(axis.where, axis.why) for axis in coupling.pinned]
