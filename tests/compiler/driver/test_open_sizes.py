"""Models with open dimensions: which sizes stand for them, and that everything sees the same ones."""

import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from graphpress import optimize
from graphpress.cli.main import main
from graphpress.errors import DataError, ModelError
from graphpress.runtime import Session
from graphpress.runtime.optimization import limited

RNG = np.random.default_rng(0)
STRIDED = (
    "(float[N, 3, H, W] x) => (float[N, C, h, w] y) "
    "{ a = Conv <strides = [2, 2]> (x, first) b = Relu (a) y = Conv <strides = [2, 2]> (b, second) }"
)
SOUND = (
    "(float[N, S] x) => (float[N, C, F] y) "
    "{ a = Unsqueeze (x, one) b = Conv <strides = [160]> (a, window) c = Relu (b) y = Conv (c, mix) }"
)
TEXT = "(int64[N, S] x) => (float[N, S, 8] y) { a = Gather (table, x) s = Shape (x) l = Gather (s, one) " \
    "p = Slice (positions, zero, l) b = Add (a, p) y = MatMul (b, square) }"  # fmt: skip
STATE = (
    "(float[?, ?] x, float[2, ?, 8] state, int64 rate) => (float[?, ?, ?] y) "
    "{ i = Slice (x, zero, eight, one) r = Cast <to = 1> (rate) t = Add (i, r) a = Unsqueeze (t, zero) "
    "c = Concat <axis = 0> (state, a) y = MatMul (c, square) }"
)
WEIGHTS = {
    "first": RNG.normal(size=(8, 3, 7, 7)),
    "second": RNG.normal(size=(4, 8, 5, 5)),
    "window": RNG.normal(size=(16, 1, 400)),
    "mix": RNG.normal(size=(8, 16, 9)),
    "table": RNG.normal(size=(10, 8)),
    "positions": RNG.normal(size=(40, 8)),
    "square": RNG.normal(size=(8, 8)),
    "zero": np.array([0]),
    "one": np.array([1]),
    "eight": np.array([8]),
}


def saved(text, folder, **weights):
    """The model of this text on disk, with the weights that it reads."""
    proto = parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> g {text}')
    read = {name for node in proto.graph.node for name in node.input}
    for name, array in {**WEIGHTS, **weights}.items():
        if name in read:
            kept = array.astype(np.float32) if array.dtype.kind == "f" else array
            proto.graph.initializer.append(numpy_helper.from_array(kept, name))
    onnx.save(proto, folder / "model.onnx")
    return folder / "model.onnx"


@pytest.mark.parametrize(
    ("text", "sizes"),
    [(STRIDED, "x 1x3x224x224"), (SOUND, "x 1x4096"), (TEXT, "x 1x16"), (STATE, "x 1x128, state 2x1x8")],
    ids=["strides", "windows", "positions", "state and scalar"],
)
def test_sizes_are_found_on_which_the_model_runs(text, sizes, tmp_path):
    result = optimize(saved(text, tmp_path), passes="cleanup", output=tmp_path / "out")
    assert [note for note in result.report.notes if f"sizes were chosen for open dimensions, {sizes} (" in note]
    assert result.report.baseline.macs > 0


def test_where_no_sizes_are_found_the_clean_up_is_done_unseen_and_said_to_be(tmp_path):
    """The sum of its inputs has no size that suits both."""
    text = (
        "(float[N, S] x) => (float[N, T] y) "
        "{ i = Identity (x) c = Concat <axis = 1> (i, x) d = Concat <axis = 1> (c, x, x) y = MatMul (d, odd) }"
    )
    result = optimize(
        saved(text, tmp_path, odd=np.ones((7, 3))), passes="cleanup", output=tmp_path / "out", verify="final"
    )
    assert result.report.status == "delivered"
    assert result.report.baseline.latency_ms is None
    assert any("runs on no made-up inputs" in note and "--input-shape x=" in note for note in result.report.notes)
    nodes = [node.op_type for node in onnx.load(tmp_path / "out" / "model.onnx").graph.node]
    assert "Identity" not in nodes


NORM = (
    "(float[N, 1] x) => (float[N, 2] y) { q = Pow (x, power) m = ReduceMean <axes = [-1]> (q) e = Add (m, least) "
    "r = Sqrt (e) n = Div (x, r) y = Mul (n, scale) }"
)
PARTS = {"power": np.array(2.0), "least": np.array(1e-5), "scale": np.array([0.3, -0.7])}


@pytest.mark.parametrize("data", [None, {"x": RNG.normal(size=(4, 1)).astype(np.float32)}], ids=["", "data"])
def test_a_model_that_the_runtime_itself_breaks_runs_as_it_stands(data, tmp_path):
    """It fuses a norm whose scale widens the result (onnx/onnx#8203)."""
    model = saved(NORM, tmp_path, **PARTS)
    with pytest.raises(DataError):
        Session(model).run({"x": np.ones((1, 1), np.float32)})
    result = optimize(model, data=data, passes="cleanup", output=tmp_path / "out")
    assert [note for note in result.report.notes if "ONNX Runtime's own graph optimizations break it" in note]
    assert result.report.baseline.latency_ms is not None
    assert (result.report.result.metric == 1) is (data is not None)
    (advice,) = [note for note in result.report.notes if note.startswith("load model.onnx with graph_optimization")]
    assert "SimplifiedLayerNormalization" in advice
    assert limited("all") == "all"


def test_what_it_breaks_may_be_gone_from_the_result(tmp_path):
    model = saved(NORM, tmp_path, **PARTS)
    result = optimize(model, passes="cleanup, fuse", allow_worse=True, output=tmp_path / "out")
    assert [note for note in result.report.notes if note.startswith("model.onnx itself runs as it is loaded by def")]
    assert Session(tmp_path / "out" / "model.onnx").run({"x": np.ones((1, 1), np.float32)})["y"].shape == (1, 2)


def test_what_runs_neither_way_is_refused_for_what_keeps_it_from_loading(tmp_path):
    """Ranks that ONNX Runtime knows only once it has folded constants."""
    text = (
        "(float[N, 8] x) => (float[N, 8] y) { s = Reshape (zero, flat) t = ConstantOfShape (two) "
        "c = Concat <axis = 0> (s, t) f = Cast <to = 1> (c) m = ReduceSum (f) y = Mul (x, m) }"
    )
    model = saved(text, tmp_path, flat=np.array([1]), two=np.array([2, 2]))
    with pytest.raises(ModelError, match="Concat"):
        optimize(model, passes="cleanup", output=tmp_path / "out")


def test_with_data_its_shapes_are_used_everywhere(tmp_path):
    """Without them, the window would be longer than what it slides over."""
    feeds = [{"x": RNG.normal(size=(1, size)).astype(np.float32)} for size in (9000, 9000, 20000, 9000)]
    result = optimize(
        saved(SOUND, tmp_path), data=feeds, passes="prune{ratio=0.25}", max_drop=None, allow_worse=True,
        output=tmp_path / "out",
    )  # fmt: skip
    frames = (9000 - 400) // 160 + 1
    assert result.report.baseline.macs == 16 * 400 * frames + 8 * 16 * 9 * (frames - 8)
    assert not result.report.failures
    assert result.report.result.macs < result.report.baseline.macs


def test_what_is_shown_of_a_model_has_sizes_that_can_be(tmp_path, capsys):
    model = str(saved(SOUND, tmp_path))
    main(["inspect", model, "--json"])
    assert json.loads(capsys.readouterr().out)["macs"] > 0
    main(["inspect", model, "--groups"])
    main(["compare", model, model, "--seconds", "0.1"])
    assert "sizes were chosen for open dimensions, x 1x4096" in capsys.readouterr().out
