"""The command-line form of a pipeline: ``cleanup,prune{ratio=0.5,criterion=taylor},quantize``.

A pipeline is a comma-separated list of names, each with optional fields in braces. Values are YAML scalars or
``[…]`` lists. Parsing and printing are inverse to each other.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from graphpress.errors import UsageError

CLOSING = {"{": "}", "[": "]"}
QUOTES = "\"'"
WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]*")
"""Text that may stand without quotes, if YAML does not take it for something else."""
LONGEST_SHOWN = 80
RATIO = re.compile(r"\d+:\d+")
"""YAML 1.1 would read 2:4 as a number to base sixty."""


class PassCall(NamedTuple):
    """One name of a pipeline with the fields given to it."""

    name: str
    fields: Mapping[str, Any]


def parse_steps(text: str) -> list[PassCall]:
    """Read a pipeline.

    Raises:
        UsageError: says at which part the text breaks off.

    >>> parse_steps("fuse, prune{ratio=0.5,layers=[a, b]}")
    [PassCall(name='fuse', fields={}), PassCall(name='prune', fields={'ratio': 0.5, 'layers': ['a', 'b']})]
    """
    return [_step(part) for part in _split(text) if part]


def format_steps(steps: list[PassCall]) -> str:
    """Write a pipeline down, so that reading it gives the same steps.

    >>> format_steps([PassCall("prune", {"ratio": 0.5}), PassCall("distill", {})])
    'prune{ratio=0.5},distill'
    """
    return ",".join(
        step.name
        + (
            "{" + ",".join(f"{key}={_value_text(value)}" for key, value in step.fields.items()) + "}"
            if step.fields
            else ""
        )
        for step in steps
    )


def _step(part: str) -> PassCall:
    name, brace, rest = part.partition("{")
    name = name.strip()
    if not name or (brace and not rest.rstrip().endswith("}")):
        raise UsageError(f"cannot read the step {part!r}", where="--passes", fix="write it as name{field=value,…}")
    fields: dict[str, Any] = {}
    inside = rest.rstrip()[:-1]
    for item in _split(inside) if inside.strip() else ():
        key, equals, value = item.partition("=")
        key = key.strip()
        if not equals or not key or key in fields:
            raise UsageError(
                f"cannot read {item!r} in {part!r}", where="--passes", fix="write each field once, as field=value"
            )
        fields[key] = _value(value.strip(), part)
    return PassCall(name, fields)


def _value(text: str, part: str) -> Any:
    import yaml

    if RATIO.fullmatch(text):
        return text
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: dates that are none
        raise UsageError(
            f"cannot read the value {_shortened(text)} in {_shortened(part)}",
            where="--passes",
            fix="quote it, or write it as YAML",
        ) from error


def _shortened(text: str) -> str:
    return repr(text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…")


def _value_text(value: Any) -> str:
    """JSON is YAML too; words that YAML reads back as themselves need no quotes."""
    import yaml

    if isinstance(value, str):
        return value if WORD.fullmatch(value) and yaml.safe_load(value) == value else _quoted(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_quoted(key)}: {_value_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value_text(item) for item in value) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return {math.inf: ".inf", -math.inf: "-.inf"}.get(value, ".nan")
    if isinstance(value, float) and "e" in repr(value):  # YAML 1.1 reads 1e-05 as a word
        mantissa, _, exponent = repr(value).partition("e")
        return f"{mantissa if '.' in mantissa else mantissa + '.0'}e{int(exponent):+d}"
    return json.dumps(value)


def _quoted(text: str) -> str:
    """A JSON string, but that YAML knows no surrogate pairs."""
    return '"' + "".join(json.dumps(char)[1:-1] if char <= "\uffff" else f"\\U{ord(char):08x}" for char in text) + '"'


def _split(text: str) -> Iterator[str]:
    """Split at commas that stand outside brackets and quotes."""
    expected: list[str] = []
    quote, escaped, start = "", False, 0
    for index, char in enumerate(text):
        if quote:
            closes = char == quote and not escaped
            escaped = quote == '"' and char == "\\" and not escaped
            quote = "" if closes else quote
        elif char in QUOTES:
            quote = char
        elif char in CLOSING:
            expected.append(CLOSING[char])
        elif expected and char == expected[-1]:
            expected.pop()
        elif char in CLOSING.values():
            raise UsageError(f"{char!r} closes nothing in {text!r}", where="--passes", fix="balance the brackets")
        elif char == "," and not expected:
            yield text[start:index].strip()
            start = index + 1
    if expected or quote:
        raise UsageError(
            f"{(quote or expected[-1])!r} is missing in {text!r}", where="--passes", fix="balance brackets and quotes"
        )
    yield text[start:].strip()
