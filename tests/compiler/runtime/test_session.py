"""Sessions: what a model wants, what it gives, and what is said when either does not fit."""

import weakref

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import external_data_helper, numpy_helper

from graphpress.errors import DataError, ModelError
from graphpress.ir import from_proto, load, save
from graphpress.models import build
from graphpress.runtime import Session, stand_by


def model(text, domains=""):
    return from_proto(onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 17{domains}]> g {text}'))


@pytest.fixture(scope="module")
def network():
    return build("resnet", depth=8, stem="cifar", width=4, image=8, classes=4)


@pytest.fixture
def feed():
    return {"input": np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)}


def test_inputs_and_outputs_are_described():
    session = Session(
        model(
            "(float[N,3] x, int64[2] i, bool b, string[K] s) => (float[N,3] y, int64[2] j, bool c, string[K] t) "
            "{ y = Relu(x) j = Abs(i) c = Not(b) t = Identity(s) }"
        )
    )
    assert [(spec.name, spec.dtype, spec.dims) for spec in session.inputs] == [
        ("x", np.float32, ("N", 3)),
        ("i", np.int64, (2,)),
        ("b", np.bool_, ()),
        ("s", np.dtype(object), ("K",)),
    ]
    assert session.output_names == ["y", "j", "c", "t"]


@pytest.mark.parametrize("as_file", [False, True])
def test_an_unknown_rank_is_no_scalar(tmp_path, as_file):
    graph = model("(float[] x, float s) => (float[] y) { y = Add(x, s) }")
    session = Session(save(graph, tmp_path / "m.onnx")[0] if as_file else graph)
    assert [(spec.name, spec.dims) for spec in session.inputs] == [("x", None), ("s", ())]


@pytest.mark.parametrize("optimization", ["none", "basic", "all"])
def test_a_model_and_its_file_give_the_same(network, feed, tmp_path, optimization):
    (file,) = save(network, tmp_path / "net.onnx")
    from_memory, from_file = (Session(source, optimization=optimization) for source in (network, file))
    np.testing.assert_array_equal(from_memory.run(feed)["logits"], from_file(feed)["logits"])


def test_inner_values_can_be_asked_for(network, feed):
    name = network.graph[2].outputs[0].name
    result = Session(network, extra_outputs=[name, "logits"]).run(feed)
    assert list(result) == ["logits", name]


def test_external_data_is_found(network, feed, tmp_path):
    (file,) = save(network, tmp_path / "net.onnx")
    proto = onnx.load(file)
    external_data_helper.convert_model_to_external_data(proto, location="net.bin", size_threshold=0)
    (tmp_path / "external").mkdir()
    onnx.save(proto, tmp_path / "external" / "net.onnx")
    external = load(tmp_path / "external" / "net.onnx")
    np.testing.assert_array_equal(Session(external).run(feed)["logits"], Session(network).run(feed)["logits"])
    inner = external.graph[2].outputs[0].name
    assert inner in Session(external, extra_outputs=[inner]).run(feed)


def test_the_graph_that_really_runs_can_be_written(network, tmp_path):
    Session(network, optimized_path=tmp_path / "optimized.onnx")
    assert onnx.load(tmp_path / "optimized.onnx").graph.node


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda feed: {}, "cannot run"),
        (lambda feed: {"x": feed["input"]}, "cannot run"),
        (lambda feed: {"input": feed["input"].astype(np.float64)}, "cannot run"),
        (lambda feed: {"input": feed["input"][:, :2]}, "cannot run"),
    ],
)
def test_a_feed_that_does_not_fit_is_said(network, feed, change, what):
    with pytest.raises(DataError, match=what) as raised:
        Session(network).run(change(feed))
    assert raised.value.fix


def test_a_model_that_does_not_load_is_said(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    with pytest.raises(ModelError, match="cannot load") as raised:
        Session(tmp_path / "bad.onnx")
    assert raised.value.where.endswith("bad.onnx")
    with pytest.raises(ModelError, match="cannot load"):
        Session(model("(float[2] x) => (float[2] y) { y = nowhere.NoSuchOperator(x) }", ', "nowhere": 1'))


# -- standing by -----------------------------------------------------------------------------------------------


def test_a_large_model_gives_its_memory_back_and_runs_on(network, feed, tmp_path, monkeypatch):
    monkeypatch.setattr("graphpress.runtime.session.KEPT_BYTES", 0)
    session = Session(save(network, tmp_path / "net.onnx")[0])
    expected, loaded = session.run(feed), weakref.ref(session._session)
    stand_by(session, None)
    assert loaded() is None
    np.testing.assert_array_equal(session.run(feed)["logits"], expected["logits"])


def test_a_small_model_stays_loaded_and_so_does_one_without_a_file(network, tmp_path, monkeypatch):
    small = Session(save(network, tmp_path / "net.onnx")[0])
    monkeypatch.setattr("graphpress.runtime.session.KEPT_BYTES", 0)
    for session in (small, Session(network)):
        loaded = session._session
        session.stand_by()
        assert session._session is loaded


def test_a_file_that_is_gone_when_it_is_loaded_again_says_so(network, feed, tmp_path, monkeypatch):
    monkeypatch.setattr("graphpress.runtime.session.KEPT_BYTES", 0)
    (file,) = save(network, tmp_path / "net.onnx")
    session = Session(file)
    session.stand_by()
    file.unlink()
    with pytest.raises(ModelError, match="cannot load"):
        session.run(feed)


def test_the_graph_that_runs_is_written_without_large_weights(tmp_path):
    text = '<ir_version: 10, opset_import: ["": 17]> g (float[N,1024] x) => (float[N,512] y) { y = MatMul(x, w) }'
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.append(numpy_helper.from_array(np.zeros((1024, 512), np.float32), "w"))
    graph = from_proto(proto)
    Session(graph, optimized_path=tmp_path / "optimized.onnx")
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 10_000
    proto = onnx.load(tmp_path / "optimized.onnx", load_external_data=False)
    assert [node.op_type for node in proto.graph.node] == ["MatMul"]


@pytest.mark.parametrize("room", [True, False])
def test_a_large_model_is_mapped_where_there_is_room_for_it(network, feed, tmp_path, monkeypatch, room):
    """From memory and from its file; the results are those of the small one."""
    (file,) = save(network, tmp_path / "net.onnx")
    expected = Session(file).run(feed)["logits"]
    for name in ("runtime.session.KEPT_BYTES", "runtime.session.LARGE_FILE_BYTES", "ir.weights.LARGE_FILE_BYTES"):
        monkeypatch.setattr(f"graphpress.{name}", 0)
    for name in ("runtime.session", "ir.weights", "ir.external"):
        monkeypatch.setattr(f"graphpress.{name}.LARGE_BYTES", 100)
    if not room:
        monkeypatch.setattr("graphpress.runtime.session.save", no_room)
        monkeypatch.setattr("graphpress.runtime.session.write_apart", no_room)
    for source in (network, file):
        np.testing.assert_array_equal(Session(source).run(feed)["logits"], expected)


def no_room(*arguments, **options):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("as_file", [False, True])
def test_a_small_model_is_loaded_without_a_scratch_folder(network, feed, tmp_path, monkeypatch, as_file):
    model = save(network, tmp_path / "model.onnx")[0] if as_file else network
    monkeypatch.setattr("graphpress.runtime.session.scratch_folder", None)
    assert Session(model).run(feed)
