"""The build script: flags by what the tool lists, refusals in words, nothing half-written."""

import json
import re
import shlex
import shutil
import subprocess

import pytest

from graphpress.backends.tensorrt.bundle.commands import command_line, listed
from graphpress.backends.tensorrt.bundle.script import remedies
from graphpress.targets import load_target

TARGETS = ("jetson{jetpack=5.1}", "jetson{jetpack=6.2}", "jetson{dla=on}", "jetson{jetpack=7.2}", "dgpu", "rtx")
GENERATIONS = ("8.5", "8.6", "10.3", "10.13", "11.4")


@pytest.mark.parametrize("target", TARGETS)
def test_shellcheck_has_nothing_to_say(written, target):
    if shutil.which("shellcheck") is None:
        pytest.skip("needs shellcheck: pip install graphpress[dev]")
    done = subprocess.run(["shellcheck", written(target) / "build.sh"], capture_output=True, text=True)
    assert done.stdout == ""
    assert done.returncode == 0


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize(
    "target", ["jetson{jetpack=5.1}", "jetson{jetpack=6.2}", "jetson{dla=on}", "dgpu{tensorrt=10.3}"]
)
def test_the_script_runs_the_very_command_that_the_data_says(bundles, written, tool, shell, target, generation):
    folder, trtexec = written(target), tool(generation)
    options = listed(subprocess.run([trtexec, "--help"], capture_output=True, text=True).stdout)
    for way in bundles(target).ways:
        choice = ["--dla", "0"] if way.name == "dla" else ["--typing", way.name]
        done = shell(folder, "--dry-run", *choice, trtexec=trtexec)
        if done.returncode == 0:
            assert shlex.split(done.stdout) == command_line(way, str(trtexec), options.__contains__)
        else:
            assert done.returncode == 3


def test_only_names_at_the_start_of_a_line_are_options(tool):
    help_text = subprocess.run([tool("8.5"), "--help"], capture_output=True, text=True).stdout
    assert {"--onnx", "--int8", "--minShapes", "--buildOnly"} <= listed(help_text)
    assert not {"--calibrateOnFridays", "--stronglyTypedToo", "--skipInference"} & listed(help_text)


@pytest.mark.parametrize(
    ("target", "generation", "present", "absent"),
    [
        ("jetson{jetpack=5.1}", "8.5", ["--int8", "--fp16"], ["--stronglyTyped"]),
        ("jetson{jetpack=6.0}", "8.6", ["--int8", "--fp16"], ["--stronglyTyped"]),
        ("jetson{jetpack=6.2}", "10.3", ["--stronglyTyped"], ["--int8", "--fp16"]),
        ("jetson{jetpack=6.2}", "11.4", [], ["--stronglyTyped", "--int8", "--fp16"]),
        ("jetson{jetpack=7.2}", "11.4", [], ["--stronglyTyped", "--int8", "--fp16"]),
        ("jetson{jetpack=6.2,dla=on}", "10.3", ["--useDLACore=0", "--allowGPUFallback", "--int8", "--fp16"], []),
    ],
)
def test_flags_are_those_of_the_version_at_hand(written, tool, shell, target, generation, present, absent):
    done = shell(written(target), "--dry-run", trtexec=tool(generation))
    arguments = shlex.split(done.stdout)
    assert done.returncode == 0
    assert set(present) <= set(arguments)
    assert not set(absent) & set(arguments)
    assert {"--timingCacheFile=timing.cache", "--profilingVerbosity=detailed", "--exportLayerInfo=layers.json"} <= set(
        arguments
    )


@pytest.mark.parametrize(
    ("target", "generation", "sentence"),
    [
        ("jetson{jetpack=6.2}", "8.5", "TensorRT 8.5.2 is too old: this folder was made for 10.3; make the folder "
         "again with: optimize MODEL --target 'jetson-orin{jetpack=5.1}'"),
        ("jetson{jetpack=6.2}", "8.6", "optimize MODEL --target 'jetson-orin{jetpack=6.0}'"),
        ("jetson{jetpack=7.2}", "10.13", "optimize MODEL --target 'jetson-orin{jetpack=6.1}'"),
        ("jetson{jetpack=5.1}", "11.4", "TensorRT 11.4.1.5 has no --int8 --fp16, which the way 'weak' needs"),
        ("jetson-thor", "10.3", "this folder was made for 10.13; update TensorRT"),
        ("jetson{dla=on}", "11.4", "which the way 'dla' needs; other ways in this folder: weak"),
    ],
)  # fmt: skip
def test_a_version_that_cannot_build_it_is_refused_in_a_sentence(written, tool, shell, target, generation, sentence):
    done = shell(written(target), trtexec=tool(generation))
    assert done.returncode == 3
    assert sentence in done.stderr
    assert done.stderr.startswith("build.sh: ")


def test_it_builds_aside_and_leaves_nothing_else(written, tool, shell, tmp_path):
    folder = written("jetson{jetpack=6.2}")
    before = {file.name for file in folder.iterdir()}
    trtexec = tool('10.3 "quoted\\"')
    done = shell(folder, trtexec=trtexec)
    assert done.returncode == 0, done.stderr
    assert {file.name for file in folder.iterdir()} - before == {
        "model.plan",
        "layers.json",
        "timing.cache",
        "built.json",
    }
    assert json.loads((folder / "built.json").read_text()) == {
        "way": "strong",
        "plan": "model.plan",
        "layers": "layers.json",
        "tensorrt": "10.3.0",
        "tool": str(trtexec),
    }
    assert re.search(r"--saveEngine=model\.plan\.part\.\d+", (tmp_path / "trtexec.log").read_text())


def test_the_timing_cache_of_an_earlier_build_is_used(written, tool, shell, tmp_path):
    folder = written("jetson{jetpack=6.2}")
    (folder / "timing.cache").write_text("what was timed before\n")
    assert shell(folder, trtexec=tool("10.3")).returncode == 0
    assert "what was timed before" in (tmp_path / "trtexec.log").read_text()
    assert (folder / "timing.cache").read_text() == "what was timed before\ntimed\n"


def test_a_failed_build_leaves_what_was_there(written, tool, shell):
    folder = written("jetson{jetpack=6.2}")
    (folder / "model.plan").write_text("the engine of yesterday")
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    done = shell(folder, trtexec=tool("10.3"), TRTEXEC_FAILS="yes")
    assert done.returncode == 1
    assert "Engine could not be created" in done.stdout
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before


def test_the_cache_for_the_accelerator_names_the_version_that_reads_it(written, tool, shell, tmp_path):
    folder = written("jetson{jetpack=5.1,dla=on}")
    kept = (folder / "calibration.cache").read_bytes()
    assert kept.startswith(b"TRT-8500-EntropyCalibration2\n")
    assert shell(folder, "--dla", "1", trtexec=tool("8.5")).returncode == 0
    log = (tmp_path / "trtexec.log").read_text()
    assert "TRT-8502-EntropyCalibration2" in log
    assert "--useDLACore=1" in log
    assert (folder / "calibration.cache").read_bytes() == kept


def test_a_tool_can_be_named(written, tool, shell):
    trtexec = tool("10.3")
    done = shell(written("jetson"), "--dry-run", "--trtexec", "TensorRT 10.3/trtexec", cwd=trtexec.parents[1])
    assert shlex.split(done.stdout)[0] == str(trtexec)


def test_a_tool_without_a_banner_is_taken_by_what_it_lists(written, tool, shell):
    done = shell(written("jetson{jetpack=5.1}"), "--dry-run", trtexec=tool("nameless"))
    assert done.returncode == 3
    assert "TensorRT of unknown version has no --int8 --fp16" in done.stderr


def test_the_python_package_builds_where_the_tool_is_missing(written, shell, tmp_path):
    package = tmp_path / "packages" / "tensorrt"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("__version__ = '10.3.0'\n")
    folder = written("jetson")
    done = shell(folder, "--dry-run", "--typing", "weak", PYTHONPATH=str(package.parent))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "tensorrt builds model-weak.plan of model-weak.onnx (way: weak)\n"
    (package / "__init__.py").write_text("__version__ = '8.6.1'\n")
    assert shell(folder, PYTHONPATH=str(package.parent)).returncode == 3


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--typing", "loose"], "--typing loose is not in this folder; it has: strong weak"),
        (["--dla", "0"], "make the folder again with dla=on in --target"),
        (["--dla", "zero"], "wants the number of an accelerator"),
        (["--typing"], "--typing wants a value"),
        (["--fast"], "unknown option --fast"),
    ],
)
def test_wrong_options_are_answered(written, tool, shell, arguments, sentence):
    done = shell(written("jetson"), *arguments, trtexec=tool("10.3"))
    assert done.returncode == 2
    assert sentence in done.stderr


def test_without_tensorrt_it_says_what_to_install(written, shell):
    done = shell(written("jetson"))
    assert done.returncode == 5
    assert "install JetPack's TensorRT, or give --trtexec PATH" in done.stderr


def test_a_tool_that_does_not_run_is_named(written, shell, tmp_path):
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho 'libnvinfer.so.10: cannot open shared object file' >&2\nexit 127\n")
    broken.chmod(0o755)
    done = shell(written("jetson"), "--trtexec", str(broken))
    assert done.returncode == 5
    assert "libnvinfer.so.10" in done.stderr


def test_help_lists_the_options(written, shell):
    done = shell(written("jetson"), "--help")
    assert done.returncode == 0
    assert all(option in done.stdout for option in ("--typing", "--dla", "--trtexec", "--dry-run"))


def test_another_version_of_a_target_file_is_written_behind_its_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "board.toml").write_text('like = "jetson"')
    lines = remedies(load_target("./board.toml"))
    assert "8.5 board.toml{jetpack=5.1}" in lines
    assert [line.replace("board.toml", "jetson-orin") for line in lines] == remedies(load_target("jetson"))
