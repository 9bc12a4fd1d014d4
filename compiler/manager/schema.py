"""The JSON schema of recipe files, from the passes' own fields.

``recipe.schema.json`` beside this module is what ``python -m graphpress.manager.schema`` prints, for editors.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from graphpress.manager.recipe_file import HOOKS
from graphpress.manager.registry import OWN_PASSES, load_pass, pass_names

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema(names: Iterable[str] | None = None) -> dict[str, Any]:
    """The schema of recipes that use these passes.

    Args:
        names: names of passes; None for all that are installed here, third-party ones included.
    """
    choices: list[dict[str, Any]] = [{"type": "string"}, _user_code()]
    definitions: dict[str, Any] = {}
    for name in pass_names() if names is None else sorted(names):
        choices.append(_fields_of(name, definitions))
    return {
        "$schema": DIALECT,
        "title": "graphpress recipe",
        "type": "object",
        "properties": {
            "description": {"type": "string"},
            "passes": {"type": "array", "items": {"anyOf": choices}},
            "hooks": {
                "type": "object",
                "properties": {hook: {"type": "string"} for hook in HOOKS},
                "additionalProperties": False,
            },
        },
        "required": ["passes"],
        "additionalProperties": False,
        **({"$defs": definitions} if definitions else {}),
    }


def published() -> str:
    """The content of ``recipe.schema.json``: our own passes, whatever else is installed."""
    return json.dumps(schema(OWN_PASSES), indent=2) + "\n"


def _user_code() -> dict[str, Any]:
    """An entry ``module:class`` with fields that only the class knows."""
    return {
        "type": "object",
        "patternProperties": {":": {"type": "object"}},
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }


def _fields_of(name: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """An entry ``name: {field: value}``; what the fields refer to goes into ``definitions``."""
    from pydantic import TypeAdapter

    table = TypeAdapter(load_pass(name)).json_schema(ref_template="#/$defs/{model}")
    definitions.update(table.pop("$defs", {}))
    del table["title"]
    return {
        "type": "object",
        "properties": {name: {**table, "additionalProperties": False}},
        "required": [name],
        "additionalProperties": False,
    }


if __name__ == "__main__":
    print(published(), end="")
