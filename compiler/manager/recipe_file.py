"""Recipe files: YAML or JSON with a list of passes, under a name (ours, another package's) or by path.

    description: prune, win back, quantize
    passes:
      - cleanup                       # a pass, or a recipe that has a name
      - prune: {ratio: 0.5}           # with fields
      - my_package.passes:Trim        # user code, by module:class
    hooks:
      after_pass: my_package.log:after_pass

``recipe.schema.json`` beside this module describes it for editors.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from graphpress.errors import UsageError, did_you_mean
from graphpress.manager.syntax import PassCall
from graphpress.plugins import NamedFile, named_files

FOLDER = Path(__file__).parent.parent / "recipes"
GROUP = "graphpress.recipes"
HOOKS = ("before_pass", "after_pass", "on_transaction")
KEYS = ("description", "passes", "hooks")


@dataclass(frozen=True)
class RecipeFile:
    """What a recipe file holds.

    Args:
        steps: the entries of ``passes``.
        description: one line for ``optimize passes``.
        hooks: the user's functions by the event that calls them.
    """

    steps: tuple[PassCall, ...]
    description: str = ""
    hooks: dict[str, Callable[..., None]] = field(default_factory=dict)


@cache
def named_recipes() -> dict[str, NamedFile]:
    """The recipes that have a name: ours, and those of other packages."""
    return named_files(FOLDER, ".yaml", GROUP)


def recipe_names() -> list[str]:
    """The recipes that have a name, sorted."""
    return list(named_recipes())


def read_recipe(file: Path) -> RecipeFile:
    """Read a recipe file, its hooks loaded.

    Raises:
        UsageError: it cannot be read, or a key or an entry means nothing.
    """
    return parse_recipe(read_table(file), file)


def parse_recipe(table: dict[str, Any], file: Path) -> RecipeFile:
    """The recipe in the table of a file; ``read_recipe`` of what is read already."""
    if unknown := sorted(set(table) - set(KEYS)):
        raise UsageError(f"unknown key {unknown[0]!r}", where=str(file), fix=did_you_mean(unknown[0], KEYS))
    if not isinstance(table.get("passes"), list):
        raise UsageError("has no list of passes", where=str(file), fix="write one, such as `passes: [cleanup]`")
    steps = tuple(_step(entry, file) for entry in table["passes"])
    return RecipeFile(steps, str(table.get("description", "")), _hooks(table.get("hooks") or {}, file))


def read_table(file: Path) -> dict[str, Any]:
    """The table in a YAML or JSON file.

    Raises:
        UsageError: it cannot be read, or holds something else.
    """
    import yaml

    try:
        text = file.read_text(encoding="utf-8")
        table = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except RecursionError as error:
        raise UsageError("is nested too deeply", where=str(file), fix="begin it with `passes:`") from error
    except (OSError, UnicodeDecodeError, ValueError, yaml.YAMLError) as error:
        raise UsageError(
            f"not readable as a recipe ({str(error).splitlines()[0]})", where=str(file), fix="write it as YAML or JSON"
        ) from error
    if not isinstance(table, dict):
        raise UsageError("holds no table", where=str(file), fix="begin it with `passes:`")
    return table


def _step(entry: Any, file: Path) -> PassCall:
    if isinstance(entry, str):
        return PassCall(entry, {})
    if isinstance(entry, dict) and len(entry) == 1:
        name, given = next(iter(entry.items()))
        if isinstance(name, str) and (given is None or isinstance(given, dict)):
            return PassCall(name, given or {})
    raise UsageError(f"cannot read the entry {entry!r}", where=str(file), fix="write a name, or name: {field: value}")


def _hooks(table: Any, file: Path) -> dict[str, Callable[..., None]]:
    from graphpress.data.user_code import is_reference, load_object

    if not isinstance(table, dict):
        raise UsageError("hooks is no table", where=str(file), fix="write event: module:function")
    for event in table:
        if event not in HOOKS:
            raise UsageError(f"unknown hook {event!r}", where=str(file), fix=did_you_mean(str(event), HOOKS))
    for event, reference in table.items():
        if not (isinstance(reference, str) and is_reference(reference)):
            raise UsageError(
                f"the hook {event} cannot be {reference!r}", where=str(file), fix=f"write {event}: module:function"
            )
    return {event: load_object(reference, folder=file.parent, error=UsageError) for event, reference in table.items()}
