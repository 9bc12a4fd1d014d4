"""What a criterion of ``sparsify`` is: from a layer (and what it reads) to its sparse weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from graphpress.analysis.linear import LinearOp
from graphpress.observation import Moments


@dataclass(frozen=True)
class SparsityRule:
    """Where the zeros go.

    Args:
        share: how much of the weights goes.
        block: n and m of an ``n:m`` pattern, or None for zeros anywhere.
    """

    share: float
    block: tuple[int, int] | None = None


class SparsityCriterion(Protocol):
    """One way to choose what goes.

    Attributes:
        needs: moments of the layer's input that it reads: none, the diagonal of the Gram matrix, or all of it.
    """

    needs: ClassVar[str]

    def sparse(self, op: LinearOp, weight: np.ndarray, seen: Moments | None, rule: SparsityRule) -> np.ndarray:
        """The weight with its zeros, in its own shape; ``seen`` holds what ``needs`` names."""
        ...
