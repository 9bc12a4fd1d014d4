"""The table of translations. A new operator is one entry in its family."""

from __future__ import annotations

from graphpress.ops import FAMILIES, RuleRegistry
from graphpress.torch_bridge.context import Translation

TRANSLATIONS: RuleRegistry[Translation] = RuleRegistry(__name__, (*FAMILIES, "control"))
"""The translation of each operator."""
