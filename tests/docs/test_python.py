"""Every command and every session of ``docs/python.md`` runs as it stands."""

import doctest
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from graphpress.ir import save
from graphpress.models import build

PAGE = Path(__file__).resolve().parents[2] / "docs" / "python.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
COMMANDS = [line for language, text in BLOCKS if language == "sh" for line in text.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs")
    network = build("resnet", depth=8, stem="cifar", width=4, image=8, classes=4)
    network.graph.inputs[0].name = "x"
    save(network, folder / "model.onnx")
    np.savez(folder / "data.npz", x=np.random.default_rng(0).normal(size=(16, 3, 8, 8)).astype(np.float32))
    return folder


def test_the_page_has_commands():
    assert len(COMMANDS) > 5
    assert all(command.startswith("python -c ") for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command(folder, command):
    program, *words = shlex.split(command)
    assert program == "python"
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=os.environ, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_the_session():
    session = "\n".join(text for language, text in BLOCKS if language == "pycon")
    test = doctest.DocTestParser().get_doctest(session, {}, PAGE.name, str(PAGE), 0)
    assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False).run(test).failed == 0
