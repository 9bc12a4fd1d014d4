"""How far ONNX Runtime may rewrite a graph while it loads it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, Literal

Optimization = Literal["none", "basic", "all"]

LEVELS: Final[tuple[Optimization, ...]] = ("none", "basic", "all")
"""From nothing at all to all that it knows, which is the default of its sessions."""

OPTIONS: Final = {"none": "ORT_DISABLE_ALL", "basic": "ORT_ENABLE_BASIC", "all": "ORT_ENABLE_ALL"}
"""What they are called in ``onnxruntime.GraphOptimizationLevel``."""

_highest: ContextVar[Optimization] = ContextVar("highest level of optimization", default="all")


@contextmanager
def any_optimization() -> Iterator[None]:
    """Let sessions that are opened within optimize as far as they are asked to, until somebody limits it."""
    token = _highest.set("all")
    try:
        yield
    finally:
        _highest.reset(token)


def limit_optimization(level: Optimization) -> None:
    """Let no session optimize beyond this level, to the end of ``any_optimization``: all that is compared is treated
    alike.
    """
    _highest.set(level)


def limited(level: Optimization) -> Optimization:
    """The level, or the highest that is allowed."""
    return min(level, _highest.get(), key=LEVELS.index)
