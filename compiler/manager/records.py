"""What a run of passes has to tell, as plain records: the report takes them as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

PassStatus = Literal["applied", "refused", "rolled_back"]

TIME_IS_UP = "the time limit was reached"
"""Why a pass was not run, or not to its end."""


@dataclass(frozen=True, kw_only=True)
class DecomposedLayer:
    """A layer that became a chain of thinner ones.

    Args:
        name, op: the node and its operator.
        form: of the chain, as the pass calls it.
        ranks: inner sizes of the chain.
        full_ranks: at which it would be exact.
        energy: share of the variance of its output that these ranks keep; of its weights' energy without data.
        error: share of the variance of its output that is lost, with what it reads since the layers before changed.
        macs_before, macs: multiply-accumulates of one call.
        parameters_before, parameters: elements of its weights.
        seconds_before, seconds: of one call of it alone, measured or modelled; None where that was not asked for.
    """

    name: str
    op: str
    form: str
    ranks: Sequence[int]
    full_ranks: Sequence[int]
    energy: float
    error: float
    macs_before: int
    macs: int
    parameters_before: int
    parameters: int
    seconds_before: float | None = None
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class PassRecord:
    """What one pass did.

    Args:
        name: the pass, as recipes call it.
        status: ``applied`` (also with nothing to change, which a note says), ``refused`` or ``rolled_back``.
        options: its fields that differ from their defaults.
        seconds: time of the pass itself; ``verify_seconds`` and ``measure_seconds`` come on top.
        metric: the metric after it, where one was measured.
        changes: how many changes it made.
        nodes, parameters, macs, bytes: the model after it (its first change, where it made several); ``bytes`` is the
            size of its weights. Of a lossless pass that changed something, all but ``nodes`` are those of the model
            after the whole run of lossless passes. None for a pass that was refused, ``macs`` also where a shape is
            unknown.
        transaction: number of the transaction it belongs to; None for a pass on its own.
        notes: sentences for the reader.
        decomposed: layers that became chains.
        failure: the exception that ended it, a bug of the pass; empty for one that did not break.
    """

    name: str
    status: PassStatus
    seconds: float = 0.0
    verify_seconds: float = 0.0
    measure_seconds: float = 0.0
    metric: float | None = None
    notes: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    changes: int = 0
    nodes: int | None = None
    parameters: int | None = None
    macs: int | None = None
    bytes: int | None = None
    transaction: int | None = None
    decomposed: Sequence[DecomposedLayer] = ()
    failure: str = ""


@dataclass(frozen=True, kw_only=True)
class RefusalRecord:
    """Something a pass could have done and did not.

    Args:
        pass_name: the pass; ``pass`` in JSON.
        where: node or value concerned.
        why: the reason.
        fix: what to do about it.
    """

    pass_name: str
    where: str
    why: str
    fix: str = ""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The accuracy budget and how sure its verdict is.

    Args:
        drop: how much the metric fell, a fraction; negative when it rose.
        low, high: the interval of the drop at ``confidence``.
        samples: how many samples it rests on.
        max_drop: the budget; None when it was waived.
        unit: what drops are told in: ``points``, which are hundredths, ``dB`` or ``nats``.
    """

    drop: float
    low: float | None
    high: float | None
    confidence: float = 0.95
    samples: int = 0
    max_drop: float | None = None
    unit: str = "points"

    def told(self, drop: float) -> str:
        """A drop in its unit."""
        return points(drop) if self.unit == "points" else f"{drop:.4g} {self.unit}"


@dataclass(frozen=True, kw_only=True)
class SpeedVerdict:
    """Paired, interleaved timing of the result against the input model.

    Args:
        ratio: of the result's time to the input model's; below 1 the result is faster.
        low, high: the interval of that ratio, with the spread between sessions in it.
        rounds: paired measurements.
        pairs: of sessions that were timed.
        slower_above: the never-worse gate's tolerance: the result is worse where even ``low`` lies above this.
    """

    ratio: float
    low: float
    high: float
    rounds: int = 0
    pairs: int = 1
    slower_above: float = 1.03


def points(drop: float) -> str:
    """A fraction in points: 0.01 is one point."""
    return f"{100 * drop:.2f} points"
