"""What a run has to tell, as plain records that mirror ``report.json`` key for key.

Figures that could not be measured are None and become ``null``; so does a float that is not finite, because JSON
has no word for it. The attributes are named like the JSON keys, but for ``RefusalRecord.pass_name``, whose key is
``pass``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import PurePath
from typing import Any, Literal, TypeVar

from graphpress.errors import UsageError

SCHEMA_VERSION = 1

Status = Literal["delivered", "kept_original", "budget_not_met"]
PassStatus = Literal["applied", "refused", "rolled_back"]

T = TypeVar("T")

_RENAMED = {"pass_name": "pass"}
"""Attributes whose JSON key is a Python keyword."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One model in numbers; None where a figure was not or could not be measured.

    Args:
        metric: value of the metric, a fraction (0.91 is 91 %).
        latency_ms: median time of one call in milliseconds.
        parameters: elements of all weights (constants that say how to move data are none).
        macs: multiply-accumulates of one call.
        bytes: size of the model file with its external data.
        nodes: nodes of all graphs.
    """

    metric: float | None = None
    latency_ms: float | None = None
    parameters: int | None = None
    macs: int | None = None
    bytes: int | None = None
    nodes: int | None = None


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
        nodes, parameters, macs, bytes: the model after it.
        transaction: number of the transaction it belongs to; None for a pass on its own.
        notes: sentences for the reader.
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
class LayerRecord:
    """One layer of the result.

    Args:
        name, op: the node and its operator.
        macs: multiply-accumulates of one call.
        asked: the arithmetic that was requested (``int8``, ``float32``, …).
        became: the arithmetic that it runs in; None where nobody could tell.
        seconds: measured time of one call.
        sqnr: signal-to-quantization-noise ratio of its output in dB.
    """

    name: str
    op: str
    macs: int | None = None
    asked: str = "float32"
    became: str | None = "float32"
    seconds: float | None = None
    sqnr: float | None = None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The accuracy budget and how sure its verdict is.

    Args:
        drop: how much the metric fell, a fraction; negative when it rose.
        low, high: the interval of the drop at ``confidence``.
        samples: how many samples it rests on.
        max_drop: the budget; None when it was waived.
    """

    drop: float
    low: float | None
    high: float | None
    confidence: float = 0.95
    samples: int = 0
    max_drop: float | None = None


@dataclass(frozen=True, kw_only=True)
class SpeedVerdict:
    """Paired, interleaved timing of the result against the input model.

    Args:
        ratio: median of result time / input time; below 1 the result is faster.
        low, high: the interval of that median.
        rounds: paired measurements.
        slower_above: the never-worse gate's tolerance: the result is worse where even ``low`` lies above this.
    """

    ratio: float
    low: float
    high: float
    rounds: int = 0
    slower_above: float = 1.03


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything a run has to tell. The first eleven fields are fixed keys of ``report.json``, the rest are extras.

    Args:
        model: the input model's file name.
        status: ``delivered``, ``kept_original`` (``model.onnx`` is the input model) or ``budget_not_met``.
        baseline: the input model in ONNX Runtime fp32.
        result: the model that was written.
        metric_name: the metric's name; None without data.
        threads: threads of the runtime while measuring.
        verdict: the accuracy budget's verdict; None without data.
        speed: the never-worse gate's paired timing; None where it was not measured.
        modelled_baseline_ms, modelled_ms: latency of the input model and of the result from the target's cost model,
            never mixed with measured ones; None where the target is this machine.
        unverified: what only the device itself can tell, and was therefore not checked.
        dropped_for_worse: passes dropped because the result was slower or larger with them.
        environment: versions and machine, as text.
    """

    model: str
    target: str
    backend: str
    status: Status
    baseline: Figures = Figures()
    result: Figures = Figures()
    metric_name: str | None = None
    threads: int = 1
    passes: Sequence[PassRecord] = ()
    refusals: Sequence[RefusalRecord] = ()
    layers: Sequence[LayerRecord] = ()
    verdict: Verdict | None = None
    speed: SpeedVerdict | None = None
    modelled_baseline_ms: float | None = None
    modelled_ms: float | None = None
    dropped_for_worse: Sequence[str] = ()
    unverified: Sequence[str] = ()
    notes: Sequence[str] = ()
    seed: int = 0
    seconds: float | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION


def to_json(report: Report) -> str:
    """The text of ``report.json``: keys in the records' order, ``schema_version`` first, no NaN."""
    table = plain(report)
    table = {"schema_version": table.pop("schema_version"), **table}
    return json.dumps(table, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def from_json(text: str) -> Report:
    """Read the text of a ``report.json``; keys that this version does not know are ignored.

    Raises:
        UsageError: not JSON, another schema version, or a key is missing.
    """
    try:
        table = json.loads(text)
    except ValueError as error:
        raise UsageError(f"not valid JSON ({error})", where="report.json", fix="write the report again") from error
    version = table.get("schema_version") if isinstance(table, dict) else None
    if version != SCHEMA_VERSION:
        raise UsageError(
            f"schema version {version!r} cannot be read",
            where="report.json",
            fix=f"write it with a graphpress whose reports have schema version {SCHEMA_VERSION}",
        )
    try:
        return _report(table)
    except (TypeError, AttributeError) as error:
        raise UsageError(f"malformed report ({error})", where="report.json", fix="write the report again") from error


def plain(item: Any) -> Any:
    """Records, tuples, paths and numpy scalars as the plain values of JSON; floats that are not finite become None.

    >>> plain({"ratio": float("nan"), "file": PurePath("out"), "names": ("a", "b")})
    {'ratio': None, 'file': 'out', 'names': ['a', 'b']}
    """
    if is_dataclass(item) and not isinstance(item, type):
        return {_RENAMED.get(one.name, one.name): plain(getattr(item, one.name)) for one in fields(item)}
    if isinstance(item, Mapping):
        return {str(key): plain(value) for key, value in item.items()}
    if isinstance(item, float):
        return float(item) if math.isfinite(item) else None
    if item is None or isinstance(item, (bool, int, str)):
        return item
    if isinstance(item, PurePath):
        return str(item)
    if hasattr(item, "tolist"):
        return plain(item.tolist())
    if isinstance(item, Iterable):
        return [plain(value) for value in item]
    return str(item)


def _report(table: Mapping[str, Any]) -> Report:
    values = dict(table)
    values["baseline"] = _record(Figures, table.get("baseline") or {})
    values["result"] = _record(Figures, table.get("result") or {})
    for key, kind in (("passes", PassRecord), ("refusals", RefusalRecord), ("layers", LayerRecord)):
        values[key] = tuple(_record(kind, row) for row in table.get(key) or ())
    for key, single in (("verdict", Verdict), ("speed", SpeedVerdict)):
        values[key] = _record(single, table[key]) if table.get(key) else None
    return _record(Report, values)


def _record(kind: type[T], table: Mapping[str, Any]) -> T:
    known = {_RENAMED.get(one.name, one.name): one.name for one in fields(kind)}  # type: ignore[arg-type]
    values = {known[key]: value for key, value in table.items() if key in known}
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
