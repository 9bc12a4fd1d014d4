"""The same call gives the same bytes: whatever order hashes bring, and on however many threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from graphpress.ir import save
from graphpress.models import build

WAYS = [("0", 1), ("1", 2), ("random", 1)]
"""PYTHONHASHSEED, and threads."""

CALLS = {
    "clean-up": ["bert.onnx", "--recipe", "cleanup", "--target", "raspberrypi4"],
    "fusion": ["bert.onnx", "--passes", "cleanup,fuse", "--target", "x86-avx512-vnni"],
    "prune": ["net.onnx", "--passes", "prune{ratio=0.5}", "--data", "net.npz", "--target", "raspberrypi4"],
    "int8": ["net.onnx", "--recipe", "int8", "--data", "net.npz", "--target", "arm64"],
    "jetson": ["net.onnx", "--target", "jetson", "--data", "net.npz"],
}
"""For other machines, where nothing is timed: what is measured decides nothing here."""

SCRIPT = """
import json, sys
from graphpress.cli.main import main
for words in json.loads(sys.argv[1]):
    code = main(words)
    assert code == 0, (code, words)
"""
MEASURED = ("report.json", "report.html")
"""They hold times, and the manifest their digests."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Every call in every way: the folder that holds an output folder for each call."""
    home = tmp_path_factory.mktemp("models")
    save(build("bert", layers=1, width=8, heads=2, vocabulary=12, longest=8), home / "bert.onnx")
    save(build("resnet", depth=8, stem="cifar", width=4, image=8), home / "net.onnx")
    np.savez(home / "net.npz", input=np.random.default_rng(0).normal(size=(8, 3, 8, 8)).astype(np.float32))
    for hash_seed, threads in WAYS:
        common = ["--threads", str(threads), "--max-drop", "none", "--quiet"]
        words = [[*call, *common, "--output", f"{hash_seed}-{threads}/{name}"] for name, call in CALLS.items()]
        subprocess.run(
            [sys.executable, "-c", SCRIPT, json.dumps(words)],
            cwd=home,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            timeout=300,
        )
    return [home / f"{hash_seed}-{threads}" for hash_seed, threads in WAYS]


@pytest.mark.parametrize("name", CALLS)
def test_files_are_the_same(runs, name):
    first, *others = [
        {
            path.relative_to(run / name).as_posix(): path.read_bytes()
            for path in sorted((run / name).rglob("*"))
            if path.is_file() and path.name not in (*MEASURED, "manifest.json")
        }
        for run in runs
    ]
    assert "model.onnx" in first
    for other in others:
        assert list(other) == list(first)
        assert [file for file in first if other[file] != first[file]] == []


@pytest.mark.parametrize("name", CALLS)
def test_manifests_are_the_same_but_for_what_was_asked_and_measured(runs, name):
    first, *others = [json.loads((run / name / "manifest.json").read_text()) for run in runs]
    assert first["outputs"]
    for manifest in (first, *others):
        del manifest["threads"]
        manifest["outputs"] = [file for file in manifest["outputs"] if file["name"] not in MEASURED]
    assert others == [first] * len(others)
