"""What a runtime would refuse of a model, or compute otherwise than asked, found without it: rules over its data."""

from graphpress.lint.finding import Finding, degraded, fatal
from graphpress.lint.limits import limit_findings, type_limit
from graphpress.lint.operators import Remedy, operator_rule, unknown_operator
from graphpress.lint.rules import Rule, findings, refusals
from graphpress.lint.settled import is_settled, settled_nodes
from graphpress.lint.support import Limit, Support
from graphpress.lint.types import FLOAT_TYPES, mixture_findings, type_name, type_rule

__all__ = [
    "FLOAT_TYPES",
    "Finding",
    "Limit",
    "Remedy",
    "Rule",
    "Support",
    "degraded",
    "fatal",
    "findings",
    "is_settled",
    "limit_findings",
    "mixture_findings",
    "operator_rule",
    "refusals",
    "settled_nodes",
    "type_limit",
    "type_name",
    "type_rule",
    "unknown_operator",
]
