"""The one table of operators. A new operator is one entry in its family."""

from __future__ import annotations

from collections.abc import Mapping

from graphpress.ops.registry import RuleRegistry
from graphpress.ops.spec import OpSpec

OPERATORS: RuleRegistry[OpSpec] = RuleRegistry("graphpress.ops")
"""What is known of each operator."""


def lookup(op_type: str, domain: str = "") -> OpSpec | None:
    """What the table says of an operator, or None when it is not in the table."""
    return OPERATORS.lookup(op_type, domain)


def table() -> Mapping[str, OpSpec]:
    """All entries by operator."""
    return OPERATORS.rules
