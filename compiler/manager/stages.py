"""A pipeline is a sequence of stages: runs of lossless passes, and transactions of a lossy pass with its recovery.

Two lossy passes that share a goal (``Pass.joined``) are in one transaction.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from graphpress.manager.contract import Pass


@dataclass(frozen=True)
class Stage:
    """Passes that share one snapshot and one verdict.

    Args:
        passes: in order.
        transaction: number of the transaction, from 0; None for a run of lossless passes.
    """

    passes: tuple[Pass, ...]
    transaction: int | None = None


def stages_of(passes: Iterable[Pass]) -> list[Stage]:
    """Group a pipeline: every lossy pass opens a transaction, unless it shares the goal of the one right before it; the
    recovery passes behind it join.
    """
    stages: list[Stage] = []
    transactions = 0
    for pass_ in passes:
        last = stages[-1] if stages else None
        joins = last is not None and (
            (pass_.recovers and last.transaction is not None)
            or (pass_.lossless and last.transaction is None)
            or pass_.joined(last.passes[-1]) == (last.passes[-1], pass_)
        )
        if joins and last is not None:
            stages[-1] = Stage((*last.passes, pass_), last.transaction)
        elif pass_.lossless and not pass_.recovers:
            stages.append(Stage((pass_,)))
        else:
            stages.append(Stage((pass_,), transactions))
            transactions += 1
    return stages
