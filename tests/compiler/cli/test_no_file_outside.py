"""A command writes its output and the cache that was asked for, and leaves nothing anywhere else."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from graphpress import torch_bridge
from graphpress.ir import save
from graphpress.models import build

PROGRAM = [sys.executable, "-P", "-c", "import sys; from graphpress.cli.main import main; sys.exit(main())"]
ELSEWHERE = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "TMPDIR")
"""Variables that say where programs write on the side."""

COMMANDS = [
    "net.onnx --data x.npz --recipe int8 --max-drop none --output {out} --cache-dir {cache}",
    "net.onnx --data own.yaml --metric own:score --passes cleanup,fuse --output {out}",
    "net.onnx --data x.npz --passes prune{{ratio=0.3}},distill{{steps=3}} --max-drop none --output {out}",
    "net.onnx --target jetson --data x.npz --recipe int8-float16 --max-drop none --output {out}",
    "net.onnx --data x.npz --metric own:broken --output {out}",
    "compare net.onnx net.onnx --data x.npz --seconds 0.1",
    "bench net.onnx --seconds 0.1",
    "doctor",
]


@pytest.fixture
def here(tmp_path):
    """The working directory, with the model, data and code of the user's."""
    here = tmp_path / "here"
    here.mkdir()
    save(build("resnet", depth=8, stem="cifar", width=4, image=8, classes=4), here / "net.onnx")
    np.savez(here / "x.npz", input=np.random.default_rng(0).normal(size=(8, 3, 8, 8)).astype(np.float32))
    (here / "own.py").write_text(
        "import numpy\ndef make(): return numpy.load('x.npz')['input']\n"
        "def score(outputs, labels): return 1.0\ndef broken(outputs, labels): raise KeyError"
    )
    (here / "own.yaml").write_text("evaluation: {source: 'own:make'}")
    return here


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_leaves_nothing_outside(here, tmp_path, command):
    if "distill" in command and not torch_bridge.available().works:
        pytest.skip("needs graphpress[torch]")
    environment = {**os.environ, **{name: str(tmp_path / name) for name in ELSEWHERE}}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    for name in ELSEWHERE:
        (tmp_path / name).mkdir()
    before = contents(tmp_path)
    words = command.format(out=tmp_path / "out", cache=tmp_path / "cache").split()
    done = subprocess.run([*PROGRAM, *words], cwd=here, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode in (0, 2, 3), done.stderr
    assert (tmp_path / "out").exists() == ("--output" in command and done.returncode == 0)
    assert {path for path in contents(tmp_path) - before if path.parts[0] not in ("out", "cache")} == set()


def contents(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*")}
