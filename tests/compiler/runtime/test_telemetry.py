"""ONNX Runtime tells nobody about the models that it runs."""

import os
import subprocess
import sys

import pytest

from graphpress.ir import save
from graphpress.models import build

RUN = """
import sys
from graphpress.runtime import Session
Session(sys.argv[1])
"""


@pytest.fixture
def folders(tmp_path):
    """Where programs write on the side, by the variable that says so."""
    places = {name: tmp_path / name.lower() for name in ("HOME", "XDG_CACHE_HOME", "TMPDIR")}
    for place in places.values():
        place.mkdir()
    return places


@pytest.mark.parametrize("setting", [None, "0"])
def test_a_session_leaves_no_file(folders, tmp_path, setting):
    network = build("resnet", depth=8, stem="cifar", width=4, image=8, classes=4)
    save(network, tmp_path / "model.onnx")
    environment = {**os.environ, **{name: str(place) for name, place in folders.items()}}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    if setting is not None:
        environment["ORT_DISABLE_TELEMETRY"] = setting
    command = [sys.executable, "-c", RUN, str(tmp_path / "model.onnx")]
    subprocess.run(command, env=environment, check=True)
    assert [file for place in folders.values() for file in place.rglob("*")] == []
