"""What a lossy pass and those behind it share: the model they started from, which positions are left, and how much."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from graphpress.coupling.kept import Kept, composed
from graphpress.ir import Model


@dataclass
class Transaction:
    """A lossy pass with its recovery, judged together at its end. A recovery pass repairs towards its start.

    Args:
        start: the model before the first pass, not to be changed; values keep their names through a transaction.
        kept: what is left of what was removed: for a value by name, one entry per axis, which is the kept positions
            of that axis in ``start`` (increasing), or None where the axis is whole. Changed by ``keep`` alone.
        left: the fraction of what the shared goal counts that the passes so far leave.
    """

    start: Model
    kept: dict[str, Kept] = field(default_factory=dict)
    left: float = 1.0

    def keep(self, kept: Mapping[str, Kept]) -> None:
        """Record a removal, its positions counted in the model as it was right before."""
        self.kept.update(composed(self.kept, kept))
