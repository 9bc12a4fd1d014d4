"""``docs/targets.md`` has every key of a target file, and its examples load."""

import re
import tomllib
from dataclasses import fields, is_dataclass
from pathlib import Path

from graphpress.targets import load_target
from graphpress.targets.check import FILE_KEYS, target_keys

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "targets.md").read_text("utf-8")
EXAMPLES = re.findall(r"^```toml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def test_every_key_is_documented_and_every_documented_key_is_one():
    documented = set(re.findall(r"^\| `([\w.]+)` \| .* \| .* \|$", TEXT, re.MULTILINE))
    tables = {name: kind for name, kind in target_keys().items() if is_dataclass(kind)}
    inner = {f"{name}.{field.name}" for name, kind in tables.items() for field in fields(kind)}
    assert documented == (set(target_keys()) - set(tables)) | inner
    assert all(f"`{key}`" in TEXT or f"[{key}" in TEXT for key in FILE_KEYS)


def test_the_examples_are_targets(tmp_path):
    board, _, options = EXAMPLES
    assert "project" not in tomllib.loads(board)
    file = tmp_path / "board.toml"
    file.write_text(f"{board}\n{options}", encoding="utf-8")
    assert load_target(f"{file}{{release=1}}").opset_max == 17
