"""The table of translations. A new operator is one entry in its family."""

from __future__ import annotations

from graphpress.bridge.pytorch.context import Translation
from graphpress.ops import FAMILIES, RuleRegistry

TRANSLATIONS: RuleRegistry[Translation] = RuleRegistry(__name__, (*FAMILIES, "control"))
"""The translation of each operator."""
