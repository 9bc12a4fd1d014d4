"""Which passes share a snapshot and a verdict."""

import pytest

from graphpress.manager.stages import stages_of


@pytest.mark.parametrize(
    ("letters", "expected"),
    [
        ("", []),
        ("hh", [("hh", None)]),
        ("hs", [("h", None), ("s", 0)]),
        ("ss", [("s", 0), ("s", 1)]),
        ("srr", [("srr", 0)]),
        ("srhsr", [("sr", 0), ("h", None), ("sr", 1)]),
        ("shr", [("s", 0), ("h", None), ("r", 1)]),
        ("r", [("r", 0)]),
    ],
)
def test_a_lossy_pass_takes_the_recovery_behind_it_along(passes, letters, expected):
    kinds = {"h": passes.Harmless(), "s": passes.Shrink(), "r": passes.Recover()}
    stages = stages_of(kinds[letter] for letter in letters)
    assert [("".join(one.name[0] for one in stage.passes), stage.transaction) for stage in stages] == expected
