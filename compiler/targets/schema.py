"""The JSON schema of target files, from the fields of ``Target``.

``target.schema.json`` beside this module is what ``python -m graphpress.targets.schema`` prints, for editors.
"""

from __future__ import annotations

import json
from typing import Any

from graphpress.targets.check import NOT_FROM_FILES
from graphpress.targets.target import Target

DIALECT = "https://json-schema.org/draft/2020-12/schema"
TEXTS = {"type": "array", "items": {"type": "string"}}


def schema() -> dict[str, Any]:
    """The schema of a target file."""
    from pydantic import TypeAdapter

    fields = TypeAdapter(Target).json_schema(ref_template="#/$defs/{model}")
    definitions = {name: {**table, "additionalProperties": False} for name, table in fields["$defs"].items()}
    keys = {name: table for name, table in fields["properties"].items() if name not in NOT_FROM_FILES}
    return {
        "$schema": DIALECT,
        "title": "graphpress target",
        "type": "object",
        "properties": {
            **keys,
            "like": {"type": "string"},
            "aliases": TEXTS,
            "adjust": {"type": "array", "items": _part(keys, {"lacks": TEXTS}, required=["lacks"])},
            "options": {"type": "object", "additionalProperties": {"$ref": "#/$defs/Option"}},
        },
        "anyOf": [{"required": ["description"]}, {"required": ["like"]}],
        "additionalProperties": False,
        "$defs": {
            **definitions,
            "Option": {
                "type": "object",
                "properties": {"default": {"type": "string"}},
                "additionalProperties": _part(keys, {"needs": {"type": "object", "additionalProperties": TEXTS}}),
            },
        },
    }


def published() -> str:
    """The content of ``target.schema.json``."""
    return json.dumps(schema(), indent=2) + "\n"


def _part(keys: dict[str, Any], more: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    """A table that changes some keys of the target."""
    table = {"type": "object", "properties": {**keys, **more}, "additionalProperties": False}
    return {**table, "required": required} if required else table


if __name__ == "__main__":
    print(published(), end="")
