"""No command runs what nobody named: files called like every module that it imports lie in the working directory, in
the model's folder and in the data's.
"""

import os
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import numpy as np
import pytest

from graphpress.backends.tensorrt.toolchain import find_toolchain
from graphpress.ir import save
from graphpress.models import build

NAMED = {"metrics", "feeds"}
"""Modules of the user's own that the commands name."""

NAMES = {
    *sys.stdlib_module_names,
    *packages_distributions(),
    *("graphpress", "tensorrt", "tensorrt_rtx", "sitecustomize", "usercustomize", "torch", "onnx_graphsurgeon", "evil"),
} - NAMED
"""Every module that can be imported here, and some that are looked for."""

HOSTILE = "import pathlib\npathlib.Path(__file__).with_suffix('.ran').touch()\n"

PROGRAM = (
    "import sys; from graphpress.cli.main import main; sys.exit(any([main(words.split()) for words in sys.argv[1:]]))"
)

NET = "../models/net.onnx"
COMMANDS = {
    "optimize": [f"{NET} --data ../data/data.yaml --recipe int8 --max-drop none --output int8"],
    "user code": [f"{NET} --data ../data/code.yaml --metric metrics:score --passes cleanup,fuse --output own"],
    "jetson": [f"{NET} --target jetson --recipe cleanup --output jetson"],
    "measure": [f"compare {NET} {NET} --data ../data/x.npz --seconds 0.1", f"bench {NET} --seconds 0.1", "doctor"],
    "show": [f"inspect {NET} --cost", f"inspect {NET} --groups", "passes", "passes quantize", "passes int8"],
    "targets": ["targets", "targets jetson"],
}

DATA = """
calibration: {source: images}
preprocess: {input: {scale: 0.003}}
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A working directory, and beside it a folder with models and one with data."""
    root = tmp_path_factory.mktemp("hostile")
    for name in ("here", "models", "data", "data/images"):
        (root / name).mkdir()
    save(build("resnet", depth=8, stem="cifar", width=4, image=8, classes=4), root / "models" / "net.onnx")
    samples = np.random.default_rng(0).normal(size=(8, 3, 8, 8)).astype(np.float32)
    np.savez(root / "data" / "x.npz", input=samples)
    from PIL import Image

    for index, sample in enumerate(samples):
        Image.fromarray((sample.transpose(1, 2, 0) * 99).astype(np.uint8)).save(root / f"data/images/{index}.png")
    (root / "data" / "data.yaml").write_text(DATA)
    (root / "data" / "code.yaml").write_text("evaluation: {source: 'feeds:make'}")
    (root / "data" / "feeds.py").write_text(
        "import json, wave, yaml, numpy\ndef make(): return numpy.load('../data/x.npz')['input']"
    )
    (root / "here" / "metrics.py").write_text(
        "import json, wave, yaml, PIL.Image\ndef score(outputs, labels): return 1.0"
    )
    return root


def run(command: list[str], folder: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def hostile(folders):
    """The folders, full of files with the names of modules."""
    for folder in ("here", "models", "data"):
        for name in NAMES:
            (folders / folder / f"{name}.py").write_text(HOSTILE)
    package = folders / "here" / "evil-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[graphpress.passes]\ncleanup_more = evil:Pass\n")
    return folders


def ran(folders: Path) -> list[str]:
    return sorted(file.relative_to(folders).as_posix() for file in folders.rglob("*.ran"))


@pytest.mark.slow
@pytest.mark.parametrize("commands", COMMANDS.values(), ids=COMMANDS)
def test_a_command_imports_nothing_from_the_folders_it_meets(hostile, commands):
    if "jetson" in commands[0] and find_toolchain() is None:
        pytest.skip("TensorRT is not installed")
    run([sys.executable, "-P", "-c", PROGRAM, *commands], hostile / "here")
    assert ran(hostile) == []
    assert not list(hostile.rglob("__pycache__"))


@pytest.mark.slow
def test_python_imports_nothing_from_the_folders_it_meets(hostile, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import graphpress\n"
        "graphpress.optimize('../models/net.onnx', data='../data/x.npz', passes='cleanup', output='python')\n"
        "import graphpress.passes; dir(graphpress.passes)\n"
    )
    run([sys.executable, str(script)], hostile / "here")
    assert ran(hostile) == []


def test_the_module_form_drops_the_working_directory(folders, tmp_path):
    """After Python's own -m, which has found ``graphpress`` itself by then, and what that imports at once."""
    for name in set(packages_distributions()) - {"graphpress"}:
        (tmp_path / f"{name}.py").write_text(HOSTILE)
    run([sys.executable, "-m", "graphpress", "passes"], tmp_path)
    assert ran(tmp_path) == []
