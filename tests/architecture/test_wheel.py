"""The wheel holds what the tree holds: a forgotten package imports when editable, and is missing in the wheel."""

import importlib.util
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {
    "compiler": "graphpress",
    "passes": "graphpress/passes",
    "backends": "graphpress/backends",
    "models": "graphpress/models",
}
SHIPPED = {".py", ".toml", ".yaml", ".j2", ".json", ".onnx", ".typed", ".c", ".h"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (ROOT / "pyproject.toml").is_file(), reason="needs the source tree: graphpress is installed as a wheel"
    ),
    pytest.mark.skipif(importlib.util.find_spec("build") is None, reason="needs `build`: pip install graphpress[dev]"),
]


def shipped(folder: str) -> set[str]:
    """Files of a folder, by their path in the wheel."""
    files = (ROOT / folder).rglob("*")
    return {
        f"{FOLDERS[folder]}/{file.relative_to(ROOT / folder).as_posix()}"
        for file in files
        if file.is_file() and (file.suffix in SHIPPED or file.name == "py.typed") and "__pycache__" not in file.parts
    }


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    place = tmp_path_factory.mktemp("wheel")
    tree = place / "tree"
    tree.mkdir()
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / file).is_file():
            shutil.copy(ROOT / file, tree)
        else:
            (tree / file).write_text("")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(place), str(tree)]
    subprocess.run(command, check=True, capture_output=True, text=True, cwd=place)
    with zipfile.ZipFile(next(place.glob("*.whl"))) as wheel:
        return set(wheel.namelist())


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_file_of_a_folder_is_in_the_wheel(names, folder):
    assert shipped(folder) - names == set()


def test_nothing_else_is_in_it(names):
    expected = {name for folder in FOLDERS for name in shipped(folder)}
    assert {name for name in names if not name.split("/")[0].endswith(".dist-info")} - expected == set()


def test_it_says_its_licence_and_what_it_needs(names):
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {requirement.split(">")[0].split(";")[0].strip() for requirement in project["dependencies"]}
    assert not needed & {"torch", "apache-tvm", "tensorrt-rtx", "scikit-learn"}
