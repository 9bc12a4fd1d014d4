"""A package of somebody else's, installed through entry points, used from the command line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from graphpress.ir import save
from graphpress.models import build

SOURCE = Path(__file__).parent / "package"


def install(source, target):
    """Into a folder of its own, without network."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--disable-pip-version-check",
        "--target",
        str(target),
        str(source),
    ]
    subprocess.run(command, check=True, capture_output=True, text=True)


def copy_as(place, name, **replaced):
    """The package under another distribution name, with text replaced in its project file."""
    folder = shutil.copytree(SOURCE, place / name, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    project = folder / "pyproject.toml"
    text = project.read_text().replace("graphpress-acme", name)
    for old, new in replaced.items():
        text = text.replace(old, new)
    project.write_text(text)
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    place = tmp_path_factory.mktemp("acme")
    install(copy_as(place, "graphpress-acme"), place / "site")
    return place / "site"


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("models") / "net.onnx"
    save(build("resnet", depth=8, stem="cifar", width=4, image=8, classes=4), file)
    return file


@pytest.fixture
def command_line(tmp_path):
    def call(*words, site):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, site), os.environ["PYTHONPATH"]])}
        return subprocess.run(
            [sys.executable, "-m", "graphpress", *map(str, words)],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return call


def test_its_pass_is_listed_and_runs(command_line, site, model_file, tmp_path):
    assert "acme_stamp" in command_line("passes", site=[site]).stdout
    done = command_line(model_file, "--passes", "acme_stamp{word=seen}", "--output", tmp_path / "out", site=[site])
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [(one["name"], one["status"]) for one in report["passes"]] == [("acme_stamp", "applied")]
    assert b"seen" in (tmp_path / "out" / "model.onnx").read_bytes()


def test_its_backend_writes_the_artifact(command_line, site, model_file, tmp_path):
    words = ("--backend", "acme", "--target", "arm64", "--passes", "acme_stamp", "--threads", "3")
    done = command_line(model_file, *words, "--output", tmp_path / "out", site=[site])
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "acme.txt").read_text() == "arm64, 3 threads\n"
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["backend"] == "acme"
    assert report["result"]["latency_ms"] is None


def test_a_backend_that_cannot_run_here_says_so_instead_of_being_timed(command_line, site, model_file, tmp_path):
    done = command_line(
        model_file, "--backend", "acme", "--passes", "acme_stamp", "--output", tmp_path / "out", site=[site]
    )
    assert done.returncode == 5
    assert "runs on the device only" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_doctor_names_it(command_line, site):
    assert "acme 1.0" in command_line("doctor", site=[site]).stdout


def test_its_target_and_recipe_are_listed_with_their_origin(command_line, site):
    listed = {target["name"]: target for target in json.loads(command_line("targets", "--json", site=[site]).stdout)}
    assert (listed["acme_board"]["origin"], listed["acme_board"]["aliases"]) == ("graphpress-acme", ["acme"])
    assert "the board that Acme sells (from graphpress-acme)" in command_line("targets", site=[site]).stdout
    assert "clean up, then stamp (from graphpress-acme)" in command_line("passes", site=[site]).stdout
    assert "acme_stamp" in command_line("passes", "acme_stamped", site=[site]).stdout


@pytest.mark.parametrize("called", ["acme_board", "acme{memory=large}", "path", "copy"])
def test_its_target_brings_backend_and_recipe(command_line, site, model_file, tmp_path, called):
    file = site / "graphpress_acme" / "board.toml"
    (tmp_path / "own").mkdir()
    shutil.copy(file, tmp_path / "own" / "bench.toml")
    target = {"path": str(file), "copy": "own/bench.toml{memory=large}"}.get(called, called)
    done = command_line(model_file, "--target", target, "--threads", "3", "--output", "out", site=[site])
    assert done.returncode == 0, done.stderr
    name = {"path": "board", "copy": "bench"}.get(called, "acme_board")
    assert (tmp_path / "out" / "acme.txt").read_text() == f"{name}, 3 threads\n"
    assert b"stamped" in (tmp_path / "out" / "model.onnx").read_bytes()
    again = command_line(model_file, "--recipe", "out/manifest.json", "--output", "again", site=[site])
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "again" / "model.onnx").read_bytes() == (tmp_path / "out" / "model.onnx").read_bytes()


@pytest.mark.parametrize("recipe", ["acme_stamped", "path"])
def test_its_recipe_runs_by_name_and_by_path(command_line, site, model_file, tmp_path, recipe):
    given = str(site / "graphpress_acme" / "stamped.yaml") if recipe == "path" else recipe
    done = command_line(model_file, "--recipe", given, "--output", "out", site=[site])
    assert done.returncode == 0, done.stderr
    assert b"stamped" in (tmp_path / "out" / "model.onnx").read_bytes()


def test_a_target_without_its_file_is_said(command_line, site, tmp_path):
    install(
        copy_as(tmp_path, "graphpress-bolt", **{"graphpress_acme:board.toml": "graphpress_acme:absent.toml"}),
        tmp_path / "bolt",
    )
    done = command_line("targets", "acme_board", site=[tmp_path / "bolt"])
    assert done.returncode == 2
    assert "there is no such file" in done.stderr
    assert "reinstall graphpress-bolt" in done.stderr


def test_what_is_broken_in_a_package_breaks_nothing_else(command_line, model_file, tmp_path):
    broken = {"acme.stamp:Stamp": "acme.absent:Stamp", "acme.backend:": "acme.absent:", ":stamped": ":absent"}
    folder = copy_as(tmp_path, "graphpress-bolt", **broken)
    board = folder / "graphpress_acme" / "board.toml"
    board.write_text(board.read_text().replace("{ memory_bytes = 1_000_000 }", "3"))
    site = tmp_path / "bolt"
    install(folder, site)
    place = f"{site / 'graphpress_acme' / 'board.toml'} (from graphpress-bolt): options.memory.small cannot be 3"
    listed = {name: command_line(name, site=[site]) for name in ("targets", "passes")}
    assert [done.returncode for done in listed.values()] == [0, 0]
    assert place in listed["targets"].stdout
    assert "raspberrypi5" in listed["targets"].stdout
    assert listed["passes"].stdout.count("reinstall graphpress-bolt") == 2
    assert command_line("targets", "cpu", site=[site]).returncode == 0
    assert place in command_line("targets", "acme_board", site=[site]).stderr
    timed = command_line("bench", model_file, "--seconds", "0.1", site=[site])
    assert (timed.returncode, "reinstall graphpress-bolt" in timed.stdout) == (0, True), timed.stderr


@pytest.mark.parametrize(
    ("replaced", "names"),
    [
        ({"graphpress_acme.stamp:Stamp": "graphpress_acme.other:Stamp"}, ("graphpress-acme", "graphpress-bolt")),
        ({"acme_stamp ": "quantize "}, ("graphpress", "graphpress-bolt")),
    ],
)
def test_two_packages_with_one_name_are_both_named(command_line, site, model_file, tmp_path, replaced, names):
    install(copy_as(tmp_path, "graphpress-bolt", **replaced), tmp_path / "bolt")
    done = command_line(model_file, "--passes", "acme_stamp", site=[site, tmp_path / "bolt"])
    assert done.returncode == 2
    first, second = names
    assert any(f"is claimed by {one} and by {two}" in done.stderr for one, two in ((first, second), (second, first)))
    assert "Traceback" not in done.stderr
