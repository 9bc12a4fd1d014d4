"""Rules, and what they find over a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from graphpress.ir import Model, Refusal
from graphpress.lint.finding import Finding
from graphpress.lint.support import Support

S = TypeVar("S", bound=Support)

Rule = Callable[[Model, S], Iterable[Finding]]
"""One thing to look for: given a model, which it does not change, and what a runtime supports."""


def findings(rules: Iterable[Rule[S]], model: Model, support: S) -> Iterator[Finding]:
    """What the rules find, rule by rule."""
    for rule in rules:
        yield from rule(model, support)


def refusals(findings: Iterable[Finding]) -> list[Refusal]:
    """Where, why and what to do, each once, in order."""
    return list(dict.fromkeys(finding.refusal for finding in findings))
