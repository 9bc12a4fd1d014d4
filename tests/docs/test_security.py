"""Every test that ``SECURITY.md`` calls upon is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and "may not" not in line]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip())
def test_a_door_has_a_test(row):
    tests = re.findall(r"`(tests/[^`]+)`", row.split("|")[-2])
    assert tests
    assert [name for name in tests if not (ROOT / name).exists()] == []
