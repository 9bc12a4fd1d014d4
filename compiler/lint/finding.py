"""One thing that a rule of the linter found."""

from __future__ import annotations

from dataclasses import dataclass

from graphpress.ir import Node, Refusal, Value


@dataclass(frozen=True)
class Finding:
    """Where the target does not do what the model says.

    Args:
        refusal: where, why, and what to do about it.
        fatal: there is no engine, or one that computes something else; otherwise it runs, in another type or elsewhere.
    """

    refusal: Refusal
    fatal: bool


def fatal(item: Node | Value | None, why: str, fix: str) -> Finding:
    """The parser or the builder refuses the model for this, or reads something else."""
    return Finding(Refusal.at(item, why, fix), True)


def degraded(item: Node | Value | None, why: str, fix: str) -> Finding:
    """It runs, but otherwise than asked."""
    return Finding(Refusal.at(item, why, fix), False)
