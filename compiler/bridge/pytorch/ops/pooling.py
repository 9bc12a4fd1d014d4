"""Pooling."""

from __future__ import annotations

from graphpress.bridge.pytorch.call import Call, Kernel, Translation
from torch import Tensor


def entries() -> dict[str, Translation]:
    """The operators of this family."""
    return {"GlobalAveragePool": lambda call: lambda x: x.mean(tuple(range(2, x.dim())), keepdim=True)}
