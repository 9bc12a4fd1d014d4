"""Importance criteria of structured pruning: which units of a coupled group matter least.

Each is one frozen dataclass in one module, named here and imported on first use.

>>> from graphpress.passes.prune.criteria import load_criterion
>>> load_criterion("l2")().needs_data
False
"""

from __future__ import annotations

from importlib import import_module

from graphpress.errors import UsageError, did_you_mean
from graphpress.passes.prune.criteria._criterion import Criterion, Scores
from graphpress.passes.prune.criteria._reduction import Combine, Normalize, Reduction, Role

__all__ = [
    "Combine",
    "Criterion",
    "Normalize",
    "Reduction",
    "Role",
    "Scores",
    "criterion_names",
    "load_criterion",
]

_CRITERIA = {
    "activation": "Activation",
    "batch_norm": "BatchNormScale",
    "fisher": "Fisher",
    "fpgm": "Fpgm",
    "l1": "L1",
    "l2": "L2",
    "obs": "Obs",
    "random": "Random",
    "taylor": "Taylor",
    "wanda": "Wanda",
}
"""Class by name; each lives in the module of that name."""


def criterion_names() -> list[str]:
    """Every criterion that can be named, sorted."""
    return sorted(_CRITERIA)


def load_criterion(name: str) -> type[Criterion]:
    """The criterion class of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in _CRITERIA:
        raise UsageError(f"unknown criterion {name!r}", where="criterion", fix=did_you_mean(name, _CRITERIA))
    kind: type[Criterion] = getattr(import_module(f"graphpress.passes.prune.criteria.{name}"), _CRITERIA[name])
    return kind
