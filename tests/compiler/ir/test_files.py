"""Reading and writing: external data, replacing files, deterministic bytes, memory."""

import subprocess
import sys
import textwrap

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphpress.errors import ModelError
from graphpress.ir import (
    Editor,
    ExternalTensor,
    clone,
    files,
    from_proto,
    load,
    save,
    serialize,
    tensors,
    to_proto,
    weight_bytes,
)
from graphpress.models import build as build_family
from graphpress.models import names


@pytest.fixture
def small_limit(monkeypatch):
    """As if protobuf messages ended at a kilobyte."""
    monkeypatch.setattr(files, "PROTOBUF_LIMIT", 1000)


@pytest.fixture
def external(model, tmp_path, small_limit):
    """The model with its weights in a file beside it."""
    save(model, tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def contents(model):
    return {name: value.const_value.numpy().copy() for name, value in model.graph.initializers.items()}


def assert_equal_contents(first, second):
    assert first.keys() == second.keys()
    for name, array in first.items():
        np.testing.assert_array_equal(second[name], array)


def test_beyond_the_limit_weights_go_beside(model, tmp_path, small_limit, run, weight):
    written = save(model, tmp_path / "m.onnx")
    assert [file.name for file in written] == ["m.onnx", "m.onnx.data"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]
    assert (tmp_path / "m.onnx.data").stat().st_size == 2 * weight.nbytes
    again = load(tmp_path / "m.onnx")
    outside = [
        name for name, value in again.graph.initializers.items() if isinstance(value.const_value, ExternalTensor)
    ]
    assert outside == ["w", "v"]
    assert_equal_contents(contents(model), contents(again))
    np.testing.assert_array_equal(run(again)["y"], run(model)["y"])


def test_saving_leaves_the_model_as_it_was(model, tmp_path, small_limit):
    before = {name: value.const_value for name, value in model.graph.initializers.items()}
    save(model, tmp_path / "m.onnx")
    assert {name: value.const_value for name, value in model.graph.initializers.items()} == before


def test_below_the_limit_there_is_one_file(model, tmp_path):
    assert save(model, tmp_path / "m.onnx") == [tmp_path / "m.onnx"]
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]


def test_what_was_external_stays_so(external, tmp_path, monkeypatch):
    monkeypatch.undo()
    assert len(save(load(external), tmp_path / "n.onnx")) == 2


def test_serialize_refuses_what_does_not_fit_a_message(model, small_limit):
    with pytest.raises(ModelError, match="one protobuf message"):
        serialize(model)


def test_saving_over_the_file_it_came_from(external, weight):
    model = load(external)
    wanted = contents(model)
    Editor(model).set_constant(model.graph.initializers["w"], weight * 2)
    wanted["w"] = weight * 2
    for _ in range(2):
        save(model, external)
        assert_equal_contents(wanted, contents(model))
        assert_equal_contents(wanted, contents(load(external)))


@pytest.mark.parametrize("dims", [None, ["a", "b"], ["a", 64], [None, None]])
@pytest.mark.parametrize("old", [False, True])
def test_a_constant_has_the_shape_of_its_tensor_whatever_is_declared(model, dims, old):
    proto = to_proto(model)
    info = helper.make_tensor_value_info("v", TensorProto.FLOAT, dims)
    if old:  # an initializer that is listed as an input was constant all the same
        proto.ir_version = 3
        proto.graph.input.append(info)
    else:
        proto.graph.value_info.append(info)
    value = from_proto(proto).graph.initializers["v"]
    assert value.shape.is_static()
    assert tuple(value.shape) == (64, 64)


@pytest.mark.parametrize("dims", [["a", 63], ["a"], [64, 64, "c"]])
def test_a_declaration_that_no_tensor_of_the_constant_has_is_refused(model, dims):
    proto = to_proto(model)
    proto.graph.value_info.append(helper.make_tensor_value_info("v", TensorProto.FLOAT, dims))
    with pytest.raises(ModelError, match=r"initializer v is declared .* but holds \[64, 64\]"):
        from_proto(proto)


def test_a_clone_never_reads_other_weights_than_its_own(external):
    model = load(external)
    copy = clone(model)
    Editor(model).set_constant(model.graph.initializers["v"], np.zeros((64, 640), np.float32))
    save(model, external)
    with pytest.raises(ValueError, match="invalid"):
        contents(copy)


def test_saving_beside_the_file_it_came_from(external):
    model = load(external)
    wanted = contents(model)
    save(model, external.with_name("n.onnx"))
    assert_equal_contents(wanted, contents(load(external)))
    assert_equal_contents(wanted, contents(load(external.with_name("n.onnx"))))


def test_a_failed_save_leaves_the_old_files_and_nothing_else(external, monkeypatch):
    model = load(external)
    before = {file.name: file.read_bytes() for file in external.parent.iterdir()}

    def fail(proto):
        raise OSError("no space left on device")

    monkeypatch.setattr(files, "_encode", fail)
    with pytest.raises(OSError, match="no space"):
        save(model, external)
    assert {file.name: file.read_bytes() for file in external.parent.iterdir()} == before
    assert isinstance(model.graph.initializers["w"].const_value, ExternalTensor)


@pytest.mark.parametrize("family", names())
def test_bytes_are_deterministic(family, tmp_path, small_limit):
    stored = []
    for attempt in ("a", "b"):
        (tmp_path / attempt).mkdir()
        written = save(build_family(family), tmp_path / attempt / "m.onnx")
        stored.append([file.read_bytes() for file in written])
    assert stored[0] == stored[1]


def test_a_small_external_tensor_moves_into_the_model(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
        [numpy_helper.from_array(np.float32([1, 2]), "w")],
    )  # fmt: skip
    path = tmp_path / "m.onnx"
    options = {"save_as_external_data": True, "location": "d.bin", "size_threshold": 0}
    onnx.save(helper.make_model(graph, ir_version=10), path, **options)
    assert save(load(path), tmp_path / "n.onnx") == [tmp_path / "n.onnx"]
    (tmp_path / "d.bin").unlink()
    assert contents(load(tmp_path / "n.onnx"))["w"].tolist() == [1, 2]


def test_external_data_needs_a_folder(external):
    with pytest.raises(ModelError, match="no folder was given"):
        from_proto(onnx.load(external, load_external_data=False))


def test_strings_stay_in_the_model(build, tmp_path, small_limit, weight):
    model = build("(float[64] x) => (float[64] y) { y = Add (x, w) z = custom.Op (t) }",
                  w=weight[0], t=np.array(["word" * 100] * 5, object))  # fmt: skip
    save(model, tmp_path / "m.onnx")
    assert contents(load(tmp_path / "m.onnx"))["t"].tolist()[0] == b"word" * 100


def test_weight_bytes_count_subgraphs_and_constant_nodes(build):
    model = build(
        """(bool c, float[2] x) => (float[2] y) {
        k = Constant <value = float[2] {1.0, 2.0}> ()
        y = If (c) <then_branch = t () => (float[2] p) <float[2] w = {1.0, 2.0}> { p = Add (x, w) },
                    else_branch = e () => (float[2] q) { q = Add (x, k) }>
    }"""
    )
    assert weight_bytes(model) == 16
    assert len(list(tensors(model))) == 2


MEMORY = """
    import sys
    from graphpress.ir import load, save
    def resident(field):
        lines = open("/proc/self/status").read().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(field)) << 10
    before = resident("VmRSS")
    model = load(sys.argv[1])
    save(model, sys.argv[1] + ".copy")
    print(resident("VmRSS") - before, resident("VmHWM") - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_large_external_weights_take_no_memory(tmp_path):
    """256 MB of weights, a sparse file, through a process of its own."""
    size = 256 << 20
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[size // 4], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": "w.bin", "offset": "0", "length": str(size)}.items():
        weight.external_data.add(key=key, value=value)
    with (tmp_path / "w.bin").open("wb") as file:
        file.truncate(size)
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", infos[:1], infos[1:], [weight])
    (tmp_path / "m.onnx").write_bytes(helper.make_model(graph, ir_version=10).SerializeToString())
    command = [sys.executable, "-c", textwrap.dedent(MEMORY), str(tmp_path / "m.onnx")]
    grown, peak = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert (tmp_path / "m.onnx.copy.data").stat().st_size == size
    assert grown < size / 8
    assert peak < size / 4
