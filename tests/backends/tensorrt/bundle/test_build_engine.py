"""Building through TensorRT's Python package: with TensorRT for RTX for real, and refusals of packages that cannot."""

import importlib.util
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from graphpress.backends.tensorrt.device import build_engine

needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="needs tensorrt_rtx: pip install graphpress[tensorrt]"
)


def run(folder, *arguments):
    command = [sys.executable, str(folder / "build_engine.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder.parent)


@needs_rtx
def test_it_builds_an_engine_ahead_of_time(written):
    folder = written("rtx")
    done = run(folder, "--capability", "8.6")
    assert done.returncode == 0, done.stderr
    assert (folder / "model.plan").stat().st_size > 10_000
    built = json.loads((folder / "built.json").read_text())
    assert (built["way"], built["plan"]) == ("strong", "model.plan")
    assert not list(folder.glob("*.part*"))


@needs_rtx
def test_a_model_that_is_refused_leaves_no_engine(written):
    folder = written("rtx")
    (folder / "model.onnx").write_bytes(b"no model")
    done = run(folder, "--capability", "8.6")
    assert done.returncode == 1
    assert "could not build it" in done.stderr
    assert not (folder / "model.plan").exists()


def test_without_the_package_it_says_so(written):
    folder = written("jetson")
    done = subprocess.run(
        [sys.executable, "-S", str(folder / "build_engine.py")], capture_output=True, text=True, env={"PATH": ""}
    )
    assert done.returncode == 5
    assert "No module named 'tensorrt'" in done.stderr


def test_a_folder_or_a_way_that_is_not_there_is_answered_in_a_sentence(written):
    folder = written("jetson")
    done = run(folder, "--way", "dla")
    assert done.returncode == 2
    assert "invalid choice: 'dla' (choose from" in done.stderr
    (folder / "expected.json").unlink()
    done = run(folder, "--dry-run")
    assert done.returncode == 2
    assert "expected.json cannot be read" in done.stderr
    assert "Traceback" not in done.stderr


def package(version: str, flags=(), creation=()):
    """What a version of the package offers, by name."""
    return SimpleNamespace(
        __version__=version,
        BuilderFlag=SimpleNamespace(**{flag: flag for flag in flags}),
        NetworkDefinitionCreationFlag=SimpleNamespace(**{name: at for at, name in enumerate(creation)}),
    )


STRONG = {"strong": True, "flags": []}
WEAK = {"strong": False, "flags": ["INT8", "FP16"]}


@pytest.mark.parametrize(
    ("package", "way", "expected"),
    [
        (package("8.5", ["FP16"], ["EXPLICIT_BATCH"]), WEAK, 1),
        (package("10.3", ["FP16"], ["EXPLICIT_BATCH", "STRONGLY_TYPED"]), WEAK, 1),
        (package("10.3", ["FP16"], ["EXPLICIT_BATCH", "STRONGLY_TYPED"]), STRONG, 3),
        (package("11.4", [], ["STRONGLY_TYPED"]), STRONG, 1),
        (package("12.0", [], []), STRONG, 0),
    ],
)
def test_networks_are_typed_as_the_way_says(package, way, expected):
    assert build_engine.creation_flags(package, way) == expected


def test_strong_typing_where_there_is_none_is_refused():
    with pytest.raises(build_engine.CannotBuildError, match=r"8\.5 has no strongly typed"):
        build_engine.creation_flags(package("8.5", ["FP16"], ["EXPLICIT_BATCH"]), STRONG)


def test_a_flag_that_is_gone_is_refused():
    with pytest.raises(build_engine.CannotBuildError, match=r"11\.4 has no flag INT8"):
        build_engine.set_types(package("11.4"), None, WEAK)


def test_implicit_quantization_that_is_gone_is_refused():
    with pytest.raises(build_engine.CannotBuildError, match="no implicit quantization"):
        build_engine.calibrate(package("11.4"), None, {"calibration": "calibration.cache"}, 0)
