"""The ahead-of-time check on proxies: what was expected against what NVIDIA's compiler makes of it."""

from types import SimpleNamespace

import pytest
from onnx import TensorProto

from graphpress.backends.tensorrt.aot_check import check_ahead_of_time, compare, keeps
from graphpress.backends.tensorrt.build import BuildRequest, BuildResult, build
from graphpress.backends.tensorrt.engine_layers import EngineLayer
from graphpress.backends.tensorrt.platform import Platform
from graphpress.backends.tensorrt.toolchain import INSTALL, Toolchain
from graphpress.errors import BackendError, ModelError
from graphpress.ir import load

ORIN = Platform("10.3", capabilities=("8.7",), proxies=("8.0", "8.6"))
FP8, INT4 = TensorProto.FLOAT8E4M3FN, TensorProto.INT4


@pytest.fixture
def aot_check(rtx, tmp_path):
    """The findings for a network."""

    def of(network, platform=ORIN, profile=None, **asked):
        return check_ahead_of_time(BuildRequest(network.save(tmp_path), profile=profile or {}), platform, asked, rtx)

    return of


def whys(findings):
    return {refusal.where: (refusal.why, refusal.fix) for refusal in findings.refusals}


def test_what_was_kept_is_said_with_what_it_was_checked_on(graph, aot_check, rtx):
    net = graph((1, 8, 16, 16))
    conv = net.node("Relu", net.conv(net.grid("x"), 8, 8, 3, 3, name="conv"), name="relu")
    findings = aot_check(net.output(conv), conv="int8", relu="float16", gone="int8")
    assert findings.became["conv"] == "int8"
    assert findings.became["relu"] == "float16"
    assert "gone" not in findings.became
    assert findings.refusals == []
    assert findings.notes[0] == f"checked on proxy SM80/86 with {rtx.title}; not executed"
    assert any("on the device" in item for item in findings.unverified)


@pytest.mark.parametrize("wish", ["int8", "float16"])
def test_an_addition_of_integers_to_an_accumulator_keeps_either_precision(graph, aot_check, wish):
    """It reads its skip in int8 and adds in float16."""
    net = graph((1, 8, 16, 16))
    skip = net.grid("x")
    added = net.node("Add", net.conv(skip, 8, 8, 1, 1, name="conv"), skip, name="residual")
    findings = aot_check(net.output(net.conv(net.grid(added), 8, 8, 1, 1, name="next")), residual=wish)
    assert findings.became["residual"] == wish
    assert findings.refusals == []


def test_what_was_not_kept_is_refused_with_the_reason(graph, aot_check):
    net = graph((1, 32, 16, 16))
    up = net.conv(net.grid("x"), 32, 16, 4, 4, name="transposed", op="ConvTranspose", axis=1, strides=[2, 2])
    plain = net.node("Conv", net.grid(up), net.noise(8, 16, 3, 3), name="float_weights")
    active = net.node("Conv", plain, net.weight(8, 8, 3, 3), name="float_input")
    summed = net.conv(net.grid(active), 8, 8, 3, 3, name="summed", axis=1)
    scaled = net.conv(net.grid(summed, scale=[0.05] * 8, axis=1), 8, 8, 1, 1, name="scaled")
    added = net.node("Add", net.grid(scaled, name="g"), net.grid(net.node("Sigmoid", scaled)), name="added")
    findings = aot_check(
        net.output(added),
        **dict.fromkeys(("transposed", "float_weights", "float_input", "summed", "scaled", "added"), "int8"),
    )
    reasons = whys(findings)
    assert "no integer kernel for ConvTranspose" in reasons["transposed"][0]
    assert "its weights 'c" in reasons["float_weights"][0]
    assert "its input 'float_weights.0' is float" in reasons["float_input"][0]
    assert "weights differ along axis 1, not along its outputs (axis 0)" in reasons["summed"][0]
    assert "input differ along axis 1" in reasons["scaled"][0]
    assert "fused with its neighbors" in reasons["added"][0]
    assert all("asked for int8, becomes float16" in why and fix for why, fix in reasons.values())


def test_a_product_taken_apart_into_heads_gets_its_own_reason(graph, aot_check):
    net = graph((1, 64, 128))
    sizes, heads = (net.constant(numbers, TensorProto.INT64) for numbers in ([128] * 3, [1, 64, 4, 32]))
    whole = net.node("MatMul", net.grid("x"), net.weight(128, 384, axis=1), name="whole")
    for op, part in zip(
        ("Relu", "Tanh", "Sigmoid"), net.node("Split", whole, sizes, name="split", outputs=3, axis=2), strict=True
    ):
        net.output(net.node(op, net.node("Transpose", net.node("Reshape", part, heads), perm=[0, 2, 1, 3])))
    why, fix = whys(aot_check(net, whole="int8"))["whole"]
    assert "split takes its result apart into heads" in why
    assert "one product for each part" in fix


def test_weights_alone(graph, aot_check):
    net = graph((4, 256))
    kept = net.node("MatMul", "x", net.weight(256, 64, dtype=INT4, block=64), name="kept")
    expanded = net.node("MatMul", kept, net.weight(64, 64, axis=1, dtype=INT4), name="expanded")
    eight = net.node("MatMul", expanded, net.weight(64, 64, axis=1), name="eight")
    findings = aot_check(net.output(eight), kept="weight-only", expanded="weight-only", eight="weight-only")
    assert (findings.became["kept"], findings.became["eight"]) == ("int4", "int8-weights")
    assert whys(findings).keys() == {"expanded"}


def test_proxies_that_differ_are_told_apart(graph, aot_check):
    net = graph((1, 32, 16, 16))
    net.output(net.conv(net.grid("x"), 32, 32, 3, 3, name="conv"))
    findings = aot_check(net, Platform("10.3", proxies=("7.5", "8.6")), conv="int8")
    assert findings.became["conv"] == "float16"
    assert "for SM75" in whys(findings)["conv"][0]


def test_a_proxy_that_does_not_build_is_noted_and_all_of_them_are_an_error(graph, aot_check):
    net = graph((1, 32, 16, 16))
    net.output(net.node("Conv", net.grid("x", dtype=FP8), net.weight(32, 32, 3, 3, dtype=FP8), name="conv"))
    findings = aot_check(net, Platform("10.3", proxies=("8.6", "8.9")), conv="float8e4m3fn")
    assert findings.became["conv"] == "float8e4m3fn"
    assert "does not build for SM86: TensorRT: the GPU (sm86) has no arithmetic in fp8_e4m3" in findings.notes
    with pytest.raises(ModelError, match=r"refuses the model for SM80.*no arithmetic in fp8_e4m3") as raised:
        aot_check(net, conv="float8e4m3fn")
    assert "recipe" in raised.value.fix


def test_the_error_names_the_node_and_counts_further_reasons(graph, aot_check):
    net = graph((2, 8, 8), dtype=TensorProto.FLOAT)
    sequence = net.node("SequenceConstruct", "x", "x", name="pack")
    with pytest.raises(ModelError, match=r"no SequenceConstruct.*1 further reason") as raised:
        aot_check(net.output(net.node("ConcatFromSequence", sequence, name="unpack", axis=0)))
    assert raised.value.where == "pack"


def test_warnings_that_change_the_result_are_refusals(graph, aot_check):
    net = graph()
    net.output(net.conv(net.grid("x", dtype=TensorProto.UINT8, name="grid"), 8, 32, 3, 3, name="conv"))
    assert {"grid.q", "grid.dq"} <= whys(aot_check(net, conv="int8")).keys()


@pytest.mark.parametrize(
    ("toolchain", "platform", "reason"),
    [
        (None, ORIN, f"not installed here ({INSTALL})"),
        (
            Toolchain.of(SimpleNamespace(__name__="tensorrt", __version__="10.3")),
            ORIN,
            "builds only for the GPU at hand",
        ),
    ],
)
def test_without_a_compiler_nothing_is_claimed(tmp_path, toolchain, platform, reason):
    findings = check_ahead_of_time(BuildRequest(tmp_path / "model.onnx"), platform, {"conv": "int8"}, toolchain)
    assert (findings.became, findings.notes, findings.refusals) == ({}, (), ())
    assert "not checked" in findings.unverified[0]
    assert reason in findings.unverified[0]


def test_without_a_proxy_like_the_device_nothing_is_claimed(rtx, tmp_path):
    findings = check_ahead_of_time(
        BuildRequest(tmp_path / "model.onnx"), Platform("8.5", proxies=("7.2",)), {"conv": "int8"}, rtx
    )
    assert "none of which is like the device" in findings.unverified[0]
    assert findings.became == {}


def test_float_types_of_a_weakly_typed_network_are_left_to_the_device(graph, tmp_path):
    net = graph((1, 8, 16, 16), dtype=TensorProto.FLOAT)
    conv = net.node("Conv", "x", net.noise(8, 8, 3, 3), name="conv")
    model = load(net.output(conv).save(tmp_path))
    layers = {"the GPU at hand": [EngineLayer("conv", "CaskConvolution", ("Half",), ("Half",), ("Half",), ("conv",))]}
    findings = compare(layers, model, {"conv": "bfloat16"}, strong=False)
    assert findings.became == {"conv": "float16"}
    assert findings.refusals == []
    assert "weakly typed" in findings.unverified[0]


@pytest.mark.parametrize(
    ("asked", "became", "kept"),
    [
        ("int8", "int8", True),
        ("int8", "int8-weights", False),
        ("weight-only", "int4", True),
        ("weight-only", "int8-weights", True),
        ("weight-only", "int8", False),
        ("float16", "float32", False),
    ],
)
def test_what_counts_as_kept(asked, became, kept):
    assert keeps(asked, became) is kept


# -- what proves nothing says so --------------------------------------------------------------------------------


@pytest.fixture
def convolution(graph, tmp_path):
    net = graph((1, 8, 16, 16))
    return BuildRequest(net.output(net.conv(net.grid("x"), 8, 8, 3, 3, name="conv")).save(tmp_path))


def answering(monkeypatch, **answers):
    """Let builds for a capability give these answers, and others the real one."""

    def answer(request):
        answer = answers.get(f"SM{request.capability.replace('.', '')}", build)
        return answer(request) if callable(answer) else answer

    monkeypatch.setattr("graphpress.backends.tensorrt.aot_check.build", answer)


def test_engines_that_list_no_layers_prove_nothing(convolution, rtx, monkeypatch):
    answering(monkeypatch, SM80=BuildResult(built=True), SM86=BuildResult(built=True))
    findings = check_ahead_of_time(convolution, ORIN, {"conv": "int8"}, rtx)
    assert findings.notes[0] == f"built, no more, on proxy SM80/86 with {rtx.title}; not executed"
    assert findings.unverified[0] == f"in which types the layers compute for SM80/SM86: {rtx.title} does not list them"
    answering(monkeypatch, SM80=BuildResult(built=True))
    findings = check_ahead_of_time(convolution, ORIN, {"conv": "int8"}, rtx)
    assert findings.notes[0].startswith("checked on proxy SM86 with")
    assert findings.became == {"conv": "int8"} | findings.became
    assert check_ahead_of_time(convolution, ORIN, {}, rtx).notes[0].startswith("checked on proxy SM80/86")


def test_a_product_that_no_layer_names_is_not_verified(convolution, rtx, monkeypatch):
    other = EngineLayer("other", "gemm", ("Half",), (), ("Half",), ("another",))
    answering(monkeypatch, SM80=BuildResult(built=True, layers=[other]), SM86=BuildResult(built=True, layers=[other]))
    findings = check_ahead_of_time(convolution, ORIN, {"conv": "int8", "gone": "int8"}, rtx)
    assert "what became of conv: no layer of an engine names it" in findings.unverified


def test_a_check_that_dies_stops_no_delivery(convolution, rtx, tmp_path, monkeypatch):
    def die(request):
        raise BackendError("TensorRT's process died by signal SIGKILL", where="model.onnx", fix="-")

    answering(monkeypatch, SM80=die)
    findings = check_ahead_of_time(convolution, ORIN, {"conv": "int8"}, rtx)
    assert findings.notes[0].startswith("checked on proxy SM86 with")
    assert findings.unverified[0] == "not checked for SM80: TensorRT's process died by signal SIGKILL"
    answering(monkeypatch, SM80=die, SM86=die)
    findings = check_ahead_of_time(convolution, ORIN, {"conv": "int8"}, rtx)
    assert (list(findings.notes), findings.became, len(findings.unverified)) == ([], {}, 3)
    with pytest.raises(BackendError, match="died"):
        check_ahead_of_time(convolution, ORIN, {"conv": "int8"}, rtx, tmp_path)
