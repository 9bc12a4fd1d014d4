"""On the device: what lies in the folder or where a script is called is not run, and what a tool prints is not obeyed.

The weights of a model that is delivered as it is keep the names of their files, and those come from elsewhere.
"""

import os
import subprocess
import sys
from importlib.metadata import packages_distributions

import pytest

HOSTILE = "import pathlib\npathlib.Path(__file__).with_suffix('.ran').touch()\n"
OURS = {"verify", "build_engine", "run_engine", "engine"}
NAMES = {*sys.stdlib_module_names, *packages_distributions(), "tensorrt", "sitecustomize"} - OURS
EVIL = "\x1b[2J\x9b31m\u202e\u2066\x7f\x07\u2028"


def fill(folder):
    for name in NAMES:
        (folder / f"{name}.py").write_text(HOSTILE)


@pytest.fixture
def hostile(written, tmp_path):
    """A bundle, and a folder to call its scripts from, both full of files with the names of modules."""
    folder = written("jetson")
    (tmp_path / "here").mkdir()
    for place in (folder, tmp_path / "here"):
        fill(place)
    return folder, tmp_path / "here"


@pytest.mark.parametrize("script", ["verify.py", "build_engine.py", "build.sh"])
@pytest.mark.parametrize("inside", [True, False])
def test_a_script_runs_nothing_that_lies_there(hostile, script, inside):
    folder, here = hostile
    program = ["bash"] if script == "build.sh" else [sys.executable]
    done = subprocess.run(
        [*program, script if inside else str(folder / script)],
        cwd=folder if inside else here,
        capture_output=True,
        text=True,
    )
    assert done.returncode in (2, 5), done.stderr  # no engine yet, no TensorRT
    assert "Traceback" not in done.stderr
    assert [file for place in hostile for file in place.glob("*.ran")] == []


@pytest.mark.parametrize("fails", [False, True])
def test_what_the_tool_prints_is_not_obeyed(written, tool, tmp_path, fails):
    folder, trtexec = written("jetson"), tool("10.3")
    first, _, rest = trtexec.read_text("utf-8").partition("\n")
    prints = f"[ $1 = --help ] || {{ printf 'layer é{EVIL}\n'; printf 'warning é{EVIL}\n' >&2; }}"
    trtexec.write_text(f"{first}\n{prints}\n{rest}", "utf-8")
    environment = {**os.environ, "TRTEXEC_LOG": str(tmp_path / "log"), **({"TRTEXEC_FAILS": "1"} if fails else {})}
    command = ["bash", "build.sh", "--trtexec", str(trtexec)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True)
    text = (done.stdout + done.stderr).decode()
    assert done.returncode == fails, text
    assert "layer é?" in text
    assert "warning é?" in text
    assert all(line.isprintable() for line in text.split("\n"))
