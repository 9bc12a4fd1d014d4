"""The doors for bytes of others: what they let in and refuse. ``benchmarks/fuzz_doors.py`` looks longer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from mutants.doors import DOORS, corpus
from mutants.mutant import make_mutant

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "fuzz_doors.py"


def test_bytes_of_a_model_file_are_let_in_or_refused():
    for data in corpus("protobuf"):
        DOORS["protobuf"](data)
    for index in range(100):
        DOORS["protobuf"](make_mutant(1, index).model)


def test_metadata_is_let_in_or_refused():
    random = Random(0)
    for data in corpus("metadata"):
        DOORS["metadata"](data)
        for _ in range(4):
            spoiled = bytearray(data)
            for _ in range(random.randrange(1, 4)):
                spoiled[random.randrange(len(spoiled))] = random.randrange(256)
            DOORS["metadata"](bytes(spoiled))
            DOORS["metadata"](data[:2] + random.randbytes(1) + data[3:])


@pytest.mark.parametrize("door", DOORS)
def test_a_fuzzer_that_follows_coverage_finds_nothing_at_once(door, tmp_path):
    pytest.importorskip("atheris", reason="needs atheris: pip install graphpress[fuzz]")
    done = subprocess.run(
        [sys.executable, SCRIPT, door, "--minutes", "0.05"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
