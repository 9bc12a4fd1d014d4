"""Annotations as text in a file: JSON objects, which other programs may have changed."""

from __future__ import annotations

import json
from typing import Any, Final

START_OVER: Final = (
    "start from the original model: this one was annotated by another version, or changed by another tool"
)
"""What to do about annotations that cannot be read or do not fit: nobody can tell what they were."""


def facts_of(text: str) -> dict[str, Any]:
    """The members of the JSON object.

    Raises:
        ValueError: the text is none, in plain words.

    >>> facts_of('{"pattern":"2:4"}')
    {'pattern': '2:4'}
    """
    try:
        facts = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except ValueError as error:
        raise ValueError("it is no JSON") from error
    if not isinstance(facts, dict):
        raise ValueError("it is no JSON object")
    return facts


def check_fields(facts: dict[str, Any], *names: str) -> None:
    """Check that these fields are there, and no other.

    Raises:
        ValueError: names the first that is missing or unknown.
    """
    for name in names:
        if name not in facts:
            raise ValueError(f"it has no {name}")
    for name in facts:
        if name not in names:
            raise ValueError(f"it has the unknown field {name[:40]!r}")
