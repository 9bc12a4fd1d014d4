"""The Python API of each TensorRT that we expected to work with, read from its real bindings."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
VARIABLE = "GRAPHPRESS_TENSORRT_BINDINGS"
RTX = "rtx"
VERSIONS = ("10.3", "10.9", "10.13", "11.4", RTX)
PREPARE = f"{VARIABLE} names the folder that .ci/tensorrt_bindings.sh unpacks bindings into"


@cache
def read_surface(version: str) -> dict[str, Any] | str:
    """The API of a version, or why it cannot be read here."""
    if version == RTX:
        return _dump("tensorrt_rtx") if find_spec("tensorrt_rtx") else "tensorrt_rtx is not installed"
    if VARIABLE not in os.environ:
        return PREPARE
    folders = sorted(Path(os.environ[VARIABLE]).resolve().glob(f"{version}.*/tensorrt_bindings"))
    if not folders:
        return f"no bindings of TensorRT {version} in {os.environ[VARIABLE]}"
    if missing := [tool for tool in ("gcc", "nm", "readelf") if shutil.which(tool) is None]:
        return f"{', '.join(missing)} is not installed"
    return _dump("tensorrt_bindings", folders[0])


def _dump(module: str, package: Path | None = None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="graphpress-stubs-") as stubs:
        environment = dict(os.environ)
        if package is not None:
            _run(HERE / "stubs.py", package / "tensorrt.so", stubs)
            environment["LD_LIBRARY_PATH"] = f"{stubs}:{environment.get('LD_LIBRARY_PATH', '')}"
            environment["PYTHONPATH"] = f"{package.parent}:{environment.get('PYTHONPATH', '')}"
        found: dict[str, Any] = json.loads(_run(HERE / "surface.py", module, environment=environment))
    return found


def _run(*command: object, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def surface(version: str) -> dict[str, Any]:
    """The API of one version; skipped with the reason where it cannot be read."""
    found = read_surface(version)
    if isinstance(found, str):
        pytest.skip(found)
    return found


@pytest.fixture
def offers(surface: dict[str, Any]) -> Callable[[str, str], bool]:
    """Whether the version has a class or function, and the class an attribute or member when one is named."""

    def ask(owner: str, name: str = "") -> bool:
        kind = surface["classes"].get(owner)
        if kind is None:
            return not name and owner in surface["functions"]
        return not name or name in kind["attributes"] or name in kind["members"]

    return ask
