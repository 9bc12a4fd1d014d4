"""Building in a process of its own: what goes in, what comes out, and what happens when it dies."""

import json
import sys
import textwrap

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphpress.backend import ShapeRange
from graphpress.backends.tensorrt.build import BuildRequest, build, request_from_json, to_json
from graphpress.backends.tensorrt.engine_layers import types_of_nodes
from graphpress.errors import BackendError, ModelError

FLOAT = TensorProto.FLOAT


@pytest.fixture
def convolution(graph):
    net = graph((1, 8, 16, 16))
    return net.output(net.conv(net.grid("x"), 8, 8, 3, 3, name="conv"))


def test_a_request_survives_the_way_to_the_worker(tmp_path):
    shapes = ShapeRange((1, 8), (2, 8), (4, 8))
    request = BuildRequest(
        tmp_path / "m.onnx", "8.6", {"x": shapes}, "network", ["FP16"], False, tmp_path / "p", None, 7
    )
    again = request_from_json(json.loads(to_json(request)))
    assert {name: tuple(map(tuple, one)) for name, one in again.profile.items()} == {"x": tuple(shapes)}
    assert (again.model, again.plan, again.timing_cache) == (request.model, request.plan, None)
    assert (again.route, list(again.flags), again.strong, again.workspace) == ("network", ["FP16"], False, 7)


def test_builds_and_says_what_it_took(compiled, convolution, tmp_path):
    plan = tmp_path / "engine.plan"
    result = compiled(convolution, plan=plan)
    assert result.built
    assert result.bytes == plan.stat().st_size > 0
    assert result.seconds > 0
    assert result.peak_bytes > 100 * 2**20
    assert types_of_nodes(result.layers)["conv"] == "int8"


def test_the_same_request_gives_the_same_bytes(compiled, convolution, tmp_path):
    plans = [tmp_path / "first.plan", tmp_path / "second.plan"]
    for plan in plans:
        compiled(convolution, plan=plan)
    assert plans[0].read_bytes() == plans[1].read_bytes()


def test_dynamic_shapes_go_by_the_profile(graph, compiled):
    net = graph(("N", 8, "H", "W"), dtype=FLOAT)
    net.output(net.node("Conv", "x", net.noise(8, 8, 3, 3), name="conv"))
    profile = {"x": ShapeRange((1, 8, 8, 8), (4, 8, 16, 16), (8, 8, 32, 32))}
    assert compiled(net, profile=profile).built


def test_data_beside_the_model_are_read(compiled, tmp_path):
    weight = numpy_helper.from_array(np.ones((64, 64), np.float32), "w")
    ports = [helper.make_tensor_value_info(name, FLOAT, (4, 64)) for name in "xy"]
    made = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")], "g", ports[:1], ports[1:], [weight]
    )
    path = tmp_path / "model.onnx"
    onnx.save(
        helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9),
        path,
        save_as_external_data=True,
        location="model.onnx.data",
        size_threshold=16,
    )
    assert (tmp_path / "model.onnx.data").stat().st_size >= 64 * 64 * 4
    assert types_of_nodes(compiled(path).layers) == {"product": "float32"}


def test_a_network_lowered_by_ourselves_computes_in_the_same_types(compiled, convolution):
    parsed, lowered = (compiled(convolution, route=route) for route in ("parser", "network"))
    assert types_of_nodes(lowered.layers)["conv"] == types_of_nodes(parsed.layers)["conv"] == "int8"


def test_what_cannot_be_lowered_is_an_error_that_names_the_node(graph, compiled):
    net = graph((2, 8, 8), dtype=FLOAT)
    with pytest.raises(ModelError, match="det"):
        compiled(net.output(net.node("Det", "x", name="det")), route="network")


def test_a_timing_cache_is_kept(compiled, convolution, tmp_path):
    cache = tmp_path / "timing.cache"
    assert all(compiled(convolution, timing_cache=cache).built for _ in range(2))
    assert cache.is_file()


def test_a_compute_capability_that_it_does_not_know_is_named_with_those_it_knows(compiled, convolution):
    with pytest.raises(BackendError, match=r"8\.7") as raised:
        compiled(convolution, "8.7")
    assert "8.6" in raised.value.fix


def test_a_flag_that_does_not_exist_is_an_error_and_one_that_does_is_set(compiled, convolution):
    with pytest.raises(BackendError, match="no builder flag FP16"):
        compiled(convolution, flags=["FP16"])
    assert compiled(convolution, flags=["SPARSE_WEIGHTS"]).built


def test_a_product_that_is_not_installed_is_named_with_the_remedy(tmp_path):
    with pytest.raises(BackendError, match="is not installed") as raised:
        build(BuildRequest(tmp_path / "model.onnx", product="tensorrt_of_tomorrow"))
    assert "pip install" in raised.value.fix


def test_a_tensorrt_that_needs_a_gpu_says_so(tmp_path, monkeypatch):
    package = """
        class ILogger: pass
        class Builder:
            def __init__(self, logger):
                logger.log(1, "CUDA initialization failure with error: 35")
                raise TypeError("factory function returned nullptr")
    """
    (tmp_path / "tensorrt_without_gpu.py").write_text(textwrap.dedent(package))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(BackendError, match=r"does not start here \(factory.*CUDA initialization failure") as raised:
        build(BuildRequest(tmp_path / "model.onnx", product="tensorrt_without_gpu", strong=False))
    assert "ahead of time" in raised.value.fix


@pytest.fixture
def interpreter(tmp_path, monkeypatch):
    """Something else in place of the worker's interpreter."""

    def becomes(script):
        file = tmp_path / "python"
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(file))

    return becomes


def test_a_crash_is_an_error_with_the_last_words(interpreter, tmp_path):
    interpreter("echo 'error: Internal Error (conv7: assertion failed)' >&2; kill -SEGV $$")
    with pytest.raises(BackendError, match=r"SIGSEGV.*conv7: assertion failed"):
        build(BuildRequest(tmp_path / "model.onnx"))


def test_a_silent_end_is_an_error_too(interpreter, tmp_path):
    interpreter("exit 3")
    with pytest.raises(BackendError, match=r"exit code 3.*said nothing"):
        build(BuildRequest(tmp_path / "model.onnx"))


def test_a_build_can_be_given_up(interpreter, tmp_path):
    interpreter("exec sleep 60")
    with pytest.raises(BackendError, match=r"still building after 0\.1 s"):
        build(BuildRequest(tmp_path / "model.onnx", timeout=0.1))


def test_chatter_on_standard_output_does_not_spoil_the_answer(rtx, convolution, tmp_path, monkeypatch):
    chatter = f"import os\nos.write(1, b'hello')\nprint('world')\nfrom {rtx.name} import *\n"
    (tmp_path / "tensorrt_chatty.py").write_text(chatter)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert build(BuildRequest(convolution.save(tmp_path), "8.6", product="tensorrt_chatty")).built
