"""Names in a model and names of files steer no terminal, page or JSON, whatever shows them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from graphpress.cli.main import main
from graphpress.ir import to_proto
from graphpress.models import build

EVIL = "\x1b[2J\r\n\x9b31m\u202e\u2066\x7f\x07\u2028"
"""Clear the screen, begin a line, turn red, turn around, delete, ring."""


def renamed(name: str) -> str:
    return f"{name}{EVIL}" if name else name


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The working directory: a model with such names, under such a name, and data."""
    folder = tmp_path_factory.mktemp("names")
    model = to_proto(build("resnet", depth=8, stem="cifar", width=4, image=8, classes=4))
    graph = model.graph
    graph.name, model.producer_name, graph.doc_string = renamed("g"), renamed("p"), renamed("d")
    model.metadata_props.add(key=renamed("k"), value=renamed("v"))
    for node in graph.node:
        node.name = renamed(node.name)
        for names in (node.input, node.output):
            names[:] = [renamed(name) for name in names]
    for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        value.name = renamed(value.name)
    graph.input[0].type.tensor_type.shape.dim[0].dim_param = renamed("N")
    onnx.save(model, folder / f"net{EVIL}.onnx")
    extra = onnx.helper.make_node(
        "Nonesuch", [graph.input[0].name], [renamed("q")], renamed("bad"), domain=renamed("x.y")
    )
    graph.node.append(extra)
    onnx.save(model, folder / "bad.onnx")
    samples = np.random.default_rng(0).normal(size=(8, 3, 8, 8)).astype(np.float32)
    np.savez(folder / "data.npz", **{renamed("input"): samples})
    return folder


NET = f"net{EVIL}.onnx"
COMMANDS = {
    "optimize": [
        NET,
        "--data",
        "data.npz",
        "--recipe",
        "int8",
        "--max-drop",
        "none",
        "--output",
        "out",
        "--allow-worse",
    ],
    "as json": [NET, "--passes", "cleanup", "--output", "as-json", "--json"],
    "debug": [NET, "--passes", "cleanup", "--output", "debug", "--debug"],
    "refused": ["bad.onnx", "--passes", "cleanup", "--output", "refused"],
    "refused with a traceback": ["bad.onnx", "--passes", "cleanup", "--output", "refused", "--debug"],
    "refused as json": ["bad.onnx", "--passes", "cleanup", "--output", "refused", "--json"],
    "not there": [f"nowhere{EVIL}.onnx"],
    "an option": [NET, f"--nonesuch{EVIL}"],
    "a target": [NET, "--target", f"nonesuch{EVIL}"],
    "a pass": [NET, "--passes", f"nonesuch{EVIL}"],
    "excluded": [NET, "--passes", "cleanup", "--exclude", f"nothing{EVIL}", "--output", f"ex{EVIL}"],
    "shape": [NET, "--input-shape", f"nothing{EVIL}=1x2", "--output", "shape"],
    "inspect": ["inspect", NET],
    "cost": ["inspect", NET, "--cost"],
    "groups": ["inspect", NET, "--groups"],
    "cost as json": ["inspect", NET, "--cost", "--json"],
    "compare": ["compare", NET, NET, "--data", "data.npz", "--seconds", "0.1"],
    "compare as json": ["compare", NET, NET, "--seconds", "0.1", "--json"],
    "bench": ["bench", NET, "--seconds", "0.1"],
}


def assert_shown(text: str, where: str) -> None:
    """Nothing but lines of characters that show themselves."""
    for line in text.split("\n"):
        assert line.isprintable(), f"{where}: {line!r}"


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_shows_names_as_they_print(folder, monkeypatch, capsys, name):
    monkeypatch.chdir(folder)
    main(COMMANDS[name])
    out, err = capsys.readouterr()
    assert out or err
    assert_shown(out, "stdout")
    assert_shown(err, "stderr")
    if "json" in name:
        json.loads(out)
    if "refused" not in name and "not there" not in name:
        assert "Traceback" not in err


@pytest.mark.slow
@pytest.mark.parametrize(("target", "files"), [("cpu", 4), ("jetson", 10)])
def test_so_do_the_files_of_a_result(folder, monkeypatch, target, files):
    monkeypatch.chdir(folder)
    words = [NET, "--data", "data.npz", "--recipe", "int8", "--max-drop", "none", "--allow-worse"]
    assert main([*words, "--target", target, "--output", f"files-{target}"]) == 0
    written = [file for file in (folder / f"files-{target}").iterdir() if file.is_file()]
    assert len(written) >= files
    for file in written:
        if file.suffix in (".json", ".html", ".md", ".sh", ".py", ".cache"):
            assert_shown(file.read_text("utf-8"), file.name)
        if file.suffix == ".json":
            json.loads(file.read_text("utf-8"))


@pytest.mark.slow
def test_so_does_the_check_on_the_device(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert main([NET, "--target", "jetson", "--recipe", "int8", "--data", "data.npz", "--max-drop", "none",
                 "--allow-worse", "--output", "device"]) == 0  # fmt: skip
    for command in ([sys.executable, "verify.py"], ["bash", "build.sh", "--dry-run"], ["bash", "build.sh"]):
        done = subprocess.run(
            command, cwd=folder / "device", capture_output=True, env={**os.environ, "LC_ALL": "C.UTF-8"}
        )
        assert_shown(done.stdout.decode("utf-8", "backslashreplace"), command[-1])
        assert_shown(done.stderr.decode("utf-8", "backslashreplace"), command[-1])


@pytest.mark.skipif(sys.platform == "win32", reason="names of files are text there")
def test_what_is_no_text_is_shown_and_recorded(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    name = os.fsdecode(b"net\xff.onnx")
    Path(name).write_bytes(Path(NET).read_bytes())
    assert main([name, "--passes", "cleanup", "--output", "bytes"]) == 3  # ONNX Runtime takes no such name
    assert not Path("bytes").exists()
    assert main(["bad.onnx", "--passes", f"nonesuch{name}"]) == 2
    assert main([NET, "--passes", "cleanup", "--exclude", name, "--output", "no-text"]) == 0
    report = Path("no-text", "report.json").read_text("utf-8")
    assert f"--exclude {name!r} matches no node" in json.loads(report)["notes"]
    assert_shown("".join(capsys.readouterr()), "the terminal")


def test_python_shows_names_as_they_print(folder, monkeypatch):
    import graphpress

    monkeypatch.chdir(folder)
    result = graphpress.optimize(NET, passes="cleanup", output="python")
    assert_shown(str(result), "print")
    assert_shown(result._repr_html_(), "notebook")
