"""Mutants: always the same, of every kind, and made of models that are in order."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random

import onnx
import pytest

from mutants.draft import Draft, InapplicableError
from mutants.feeds import feed_of
from mutants.mutant import FAMILIES, make_mutant
from mutants.seeds import seeds

UNINFERRED = ("control flow", "annotated", "unspoken")
"""What holds operators and types that onnx infers nothing of."""

MUTATIONS = {f"{family.__name__}.{change.__name__}": change for family in FAMILIES for change in family.MUTATIONS}


def digests(count):
    mutants = (make_mutant(7, index) for index in range(count))
    return [
        hashlib.sha256(mutant.model + repr((mutant.changes, sorted(mutant.files.items()))).encode()).hexdigest()
        for mutant in mutants
    ]


def test_a_seed_and_a_number_are_one_mutant_in_every_process():
    code = f"import sys; sys.path[:0] = {sys.path!r}; exec(open({__file__!r}).read()); print(*digests(40))"
    here = digests(40)
    assert len(set(here)) > 35  # a few are seeds as they are
    for hash_seed in ("0", "1"):
        there = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert there.stdout.split() == here


@pytest.mark.parametrize("name", MUTATIONS)
def test_every_change_changes_some_file(name):
    changed = 0
    for number, (contents, files) in enumerate(seeds().values()):
        for attempt in range(12):
            draft = Draft(onnx.ModelProto.FromString(contents), dict(files), Random(f"{number}/{attempt}"))
            before = draft.model.SerializeToString(deterministic=True)
            try:
                assert MUTATIONS[name](draft)
            except InapplicableError:
                continue
            changed += before != draft.model.SerializeToString(deterministic=True)
            changed += dict(files) != draft.files
            changed += any(change(before) != before for change in draft.bytewise)
    assert changed


def test_seeds_of_every_kind_are_about_as_frequent():
    count = Counter(make_mutant(0, index).seed for index in range(2000))
    assert set(count) == set(seeds())
    assert min(count.values()) > 2000 / len(seeds()) / 2


@pytest.mark.parametrize("name", seeds())
def test_seeds_are_in_order_and_fed(name, tmp_path):
    contents, files = seeds()[name]
    for file, data in files.items():
        Path(tmp_path, file).write_bytes(data)
    Path(tmp_path, "model.onnx").write_bytes(contents)
    onnx.checker.check_model(
        str(tmp_path / "model.onnx"), full_check=name not in ("control flow", "annotated", "unspoken")
    )
    given = {item.name for item in onnx.ModelProto.FromString(contents).graph.input}
    assert set(feed_of(contents, name)) == given
