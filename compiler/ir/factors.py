"""The mark of a node that is a factor of a decomposed layer: the graph alone cannot tell, and files keep it."""

from __future__ import annotations

from typing import Final

FACTOR_KEY: Final = "graphpress.factor.v1"
"""Key of the mark beside the node."""
