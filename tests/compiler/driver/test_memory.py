"""Large models: of the sessions of a run, only one is loaded at a time; nothing else changes."""

import subprocess
import sys
import textwrap
import weakref
from importlib import import_module
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

import graphpress
from graphpress.runtime import session

MODULES = [import_module(f"graphpress.{name}") for name in ("runtime.session", "driver.choice", "evaluation.evaluate")]


@pytest.fixture
def optimize(network_file, images, tmp_path):
    """Run on the small network and an Identity."""
    proto = onnx.load(network_file)
    proto.graph.node.insert(0, onnx.helper.make_node("Identity", ["input"], ["copied"]))
    proto.graph.node[1].input[0] = "copied"
    file = tmp_path / "net.onnx"
    onnx.save(proto, file)

    def run(passes, output):
        options = {"threads": 1, "allow_worse": True, "max_drop": None}
        return graphpress.optimize(file, data=images, output=tmp_path / output, passes=passes, **options)

    return run


@pytest.fixture
def loaded(monkeypatch):
    """How many sessions were loaded already, at each load."""
    alive, counts, opened = list[weakref.ref](), list[int](), session._open

    def count(*arguments):
        counts.append(sum(ref() is not None for ref in alive))
        made = opened(*arguments)
        alive.append(weakref.ref(made[0]))
        return made

    monkeypatch.setattr(session, "_open", count)
    return counts


@pytest.mark.parametrize("passes", ["cleanup", "cleanup,fuse,quantize"])
def test_one_session_at_a_time(optimize, loaded, monkeypatch, passes):
    """A large model is not repaired: that takes copies of it."""
    usual = optimize(passes, "usual")
    assert max(loaded) > 0
    loaded.clear()
    for module in MODULES:
        monkeypatch.setattr(module, "KEPT_BYTES", 0)
    alone = optimize(passes, "alone")
    assert loaded
    assert max(loaded) == 0
    assert [file.name for file in alone.files] == [file.name for file in usual.files]
    assert (alone.output / "model.onnx").read_bytes() == (usual.output / "model.onnx").read_bytes()
    assert alone.report.result.metric == usual.report.result.metric
    assert alone.report.speed.rounds >= 15


def test_two_models_that_are_large_together_are_timed_one_at_a_time(optimize, network_file, monkeypatch):
    """Though the result, a third of the input, would not be too large alone."""
    timed, choice = list[bool](), MODULES[1]
    alone, kept = choice.compare_alone, int(0.6 * network_file.stat().st_size)

    def spy(first, second, put_away):
        timed.append(True)
        return alone(first, second, put_away)

    monkeypatch.setattr(choice, "KEPT_BYTES", kept)
    monkeypatch.setattr(choice, "compare_alone", spy)
    result = optimize("cleanup,fuse,quantize", "out")
    assert result.report.result.bytes < kept
    assert timed


def test_outputs_that_are_large_are_held_a_few_at_a_time(optimize, loaded, monkeypatch):
    for module in MODULES:
        monkeypatch.setattr(module, "KEPT_BYTES", 0)
    optimize("cleanup", "once")
    before = len(loaded)
    monkeypatch.setattr(MODULES[-1], "AHEAD_BYTES", 1)
    optimize("cleanup", "often")
    assert len(loaded) > before
    assert max(loaded) == 0


# -- bytes -----------------------------------------------------------------------------------------------------

WIDTH, COUNT = 1024, 24

MEASURED = """
    import re, sys
    from pathlib import Path
    import graphpress
    import graphpress.driver.choice

    file, data, passes = sys.argv[1:]
    for name, value in {"KEPT_BYTES": 1 << 22, "LARGE_FILE_BYTES": 1 << 22}.items():
        for module in ("runtime.session", "driver.choice", "evaluation.evaluate", "ir.files", "ir.weights"):
            if hasattr(sys.modules[f"graphpress.{module}"], name):
                setattr(sys.modules[f"graphpress.{module}"], name, value)

    def resident(key):
        return 1024 * int(re.search(key + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

    def run(model, output):
        options = {"max_drop": None, "allow_worse": True, "threads": 1}
        return graphpress.optimize(model, data=data or None, passes=passes, output=output, **options)

    run(Path(file).with_name("small.onnx"), Path(file).with_name("small"))
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts anew
    result = run(file, Path(file).with_name("out"))
    assert result.status == "delivered"
    print(resident("VmHWM") - before)
"""


def large_model(file, external, count=COUNT):
    """A chain of products with an Identity behind each; their weights are a hundred megabytes."""
    weight = np.random.default_rng(0).standard_normal((WIDTH, WIDTH), np.float32) / WIDTH**0.5
    text = " ".join(f"p{i} = MatMul (y{i}, w{i}) r{i} = Relu (p{i}) y{i + 1} = Identity (r{i})" for i in range(count))
    header = f'<ir_version: 8, opset_import: ["": 17]> g (float[N,{WIDTH}] y0) => (float[N,{WIDTH}] y{count})'
    proto = onnx.parser.parse_model(f"{header} {{ {text} }}")
    proto.graph.initializer.extend(numpy_helper.from_array(np.roll(weight, i, axis=0), f"w{i}") for i in range(count))
    onnx.save(proto, file, save_as_external_data=external, location=f"{file.name}.data")
    return count * weight.nbytes


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of a process is not to be had here")
@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize(
    ("passes", "most"), [("cleanup", 1.3), ("cleanup,fuse,quantize,repair", 2.3), ("prune{ratio=0.3}", 2.1)]
)
def test_a_run_holds_the_weights_about_once(tmp_path, external, passes, most):
    """Peak of resident memory per byte of weights, beyond what a small run leaves in memory."""
    weights = large_model(tmp_path / "model.onnx", external)
    large_model(tmp_path / "small.onnx", external, 1)
    np.savez(tmp_path / "data.npz", y0=np.random.default_rng(0).standard_normal((8, WIDTH), np.float32))
    data = str(tmp_path / "data.npz") if "quantize" in passes else ""
    command = [sys.executable, "-c", textwrap.dedent(MEASURED), str(tmp_path / "model.onnx"), data, passes]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < most * weights
