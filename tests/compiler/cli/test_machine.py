"""A machine that lacks something, for real: one error, exit code 6, the old output as it was; a cache is done without.

Limits hold for the child process alone; file systems are mounted in a mount namespace of its own.
"""

import functools
import json
import os
import re
import resource
import subprocess
import sys

import numpy as np
import pytest

PROGRAM = [sys.executable, "-m", "graphpress"]
RESOURCES = 6

HOG = """
import numpy as np

def score(outputs, labels):
    return float(np.ones(6 << 30, np.uint8).sum())
"""


def run(*words, cwd, before=None, within=(), **environment):
    return subprocess.run(
        [*within, *PROGRAM, *map(str, words)],
        cwd=cwd, capture_output=True, text=True, timeout=120, preexec_fn=before, env={**os.environ, **environment},
    )  # fmt: skip


def limited(kind, amount):
    return functools.partial(resource.setrlimit, kind, (amount, amount))


@functools.cache
def may_mount():
    words = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    try:
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def mounted(folder, options):
    """Words that run the rest with another file system in the place of a folder."""
    if not may_mount():
        pytest.skip("mounting needs a privilege that is not given here")
    return ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs -o {options} none "$0" && exec "$@"', str(folder)]


def everything(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def assert_told(done, *says):
    assert done.returncode == RESOURCES, done.stderr
    assert len(re.findall("^error:", done.stderr, re.MULTILINE)) == 1, done.stderr
    assert done.stderr.startswith("error:")
    assert "Traceback" not in done.stderr
    assert "bug" not in done.stderr
    for words in says:
        assert words in done.stderr


def limits(out):
    """Limits of a process under which a run fails: what is limited, to what, and what the error says."""
    model, report, page = ((out / name).stat().st_size for name in ("model.onnx", "report.json", "report.html"))
    assert model < report < page
    return [
        (resource.RLIMIT_FSIZE, 100, "File too large"),  # scratch files
        (resource.RLIMIT_FSIZE, model - 1, "fix: free some space"),
        (resource.RLIMIT_FSIZE, (report + page) // 2, "File too large"),
        (resource.RLIMIT_NOFILE, 8, "Too many open files"),
    ]


def test_limits_of_the_process(model_file, tmp_path):
    words = [model_file, "--recipe", "cleanup", "--output", tmp_path / "out", "--quiet"]
    assert run(*words, cwd=tmp_path).returncode == 0
    before = everything(tmp_path)
    for kind, amount, says in limits(tmp_path / "out"):
        done = run(*words, "--force", cwd=tmp_path, before=limited(kind, amount))
        assert_told(done, says)
        assert everything(tmp_path).items() >= before.items()
    assert run(*words, "--force", cwd=tmp_path).returncode == 0, "the next run is right"


def test_too_little_memory(model_file, tmp_path):
    (tmp_path / "hog.py").write_text(HOG)
    np.savez(tmp_path / "d.npz", x=np.zeros((4, 3, 16, 16), np.float32))
    done = run(
        model_file, "--data", "d.npz", "--metric", "hog:score", "--output", "out", "--quiet",
        cwd=tmp_path, before=limited(resource.RLIMIT_AS, 5 << 30),
    )  # fmt: skip
    assert_told(done, "memory ran out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "says"), [("ro", "Read-only file system"), ("size=16k", "No space left on device")]
)
def test_an_output_that_cannot_be_written(model_file, tmp_path, options, says):
    (tmp_path / "place").mkdir()
    within = mounted(tmp_path / "place", options)
    done = run(
        model_file, "--recipe", "cleanup", "--output", "place/out", "--json", cwd=tmp_path, within=within
    )  # fmt: skip
    assert done.returncode == RESOURCES, done.stdout
    error = json.loads(done.stdout)["error"]
    assert says in error["what"]
    assert error["exit_code"] == RESOURCES
    assert error["where"]
    assert error["fix"]


def test_a_temporary_folder_that_is_full(model_file, tmp_path):
    (tmp_path / "scratch").mkdir()
    within = mounted(tmp_path / "scratch", "nr_inodes=2")  # enough for what looks whether it can be written
    done = run(
        model_file, "--recipe", "cleanup", "--output", "out", "--quiet",
        cwd=tmp_path, within=within, TMPDIR=str(tmp_path / "scratch"),
    )  # fmt: skip
    assert_told(done, "No space left on device")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", ["ro", "nr_inodes=1"])
def test_a_cache_that_cannot_be_written(model_file, tmp_path, options):
    (tmp_path / "cache").mkdir()
    np.savez(tmp_path / "d.npz", x=np.random.default_rng(0).standard_normal((4, 3, 16, 16)).astype(np.float32))
    done = run(
        model_file, "--data", "d.npz", "--recipe", "int8", "--max-drop", "none", "--cache-dir", "cache",
        "--output", "out", "--json", cwd=tmp_path, within=mounted(tmp_path / "cache", options),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert any("nothing is kept in cache" in note for note in json.loads(done.stdout)["notes"])
