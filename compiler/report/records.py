"""The report of a job as plain records that mirror ``report.json`` key for key.

Figures that could not be measured are None and become ``null``; so does a float that is not finite, which
JSON cannot hold. The attributes are named like the JSON keys, but for ``RefusalRecord.pass_name``, whose key is
``pass``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from graphpress.errors import UsageError
from graphpress.manager.records import PassRecord, RefusalRecord, SpeedVerdict, Verdict
from graphpress.plain import KEYS, plain
from graphpress.printable import printable_json

SCHEMA_VERSION = 1

Status = Literal["delivered", "kept_original", "budget_not_met"]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One model in numbers; None where a figure was not or could not be measured.

    Args:
        metric: value of the metric, a fraction (0.91 is 91 %).
        latency_ms: time of one undisturbed call in milliseconds, the tenth percentile of many.
        parameters: elements of all weights (not of constants that only steer data movement, as shapes and axes do).
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
class LayerRecord:
    """One layer of the result.

    Args:
        name, op: the node and its operator.
        macs: multiply-accumulates of one call.
        asked: the arithmetic that was requested (``int8``, ``float32``, …).
        became: the arithmetic that it runs in; None where it is not known.
        seconds: measured time of one call.
        sqnr: signal-to-quantization-noise ratio of its result against the float model's, in dB (``layer_error``).
        channels_before, channels: how many outputs its weight had in the input model and has now; None where it is no
            linear layer, or is not in both under this name.
    """

    name: str
    op: str
    macs: int | None = None
    asked: str = "float32"
    became: str | None = "float32"
    seconds: float | None = None
    sqnr: float | None = None
    channels_before: int | None = None
    channels: int | None = None


@dataclass(frozen=True, kw_only=True)
class KernelRecord:
    """One kernel of what a backend compiled, in the order of a call.

    Args:
        kernel: what it is called.
        nodes: names of the nodes that it computes.
        shape, setting: what it reads and writes, and what was chosen of it.
        arithmetic: what it multiplies.
        macs: multiply-accumulates of the nodes; None where there are none.
        seconds: of one call, on one thread.
        start_seconds: when it begins in the call.
        peak_share: its multiply-accumulates a second as a share of what a core does at most; above 1 where an algorithm
            needs fewer of them.
    """

    kernel: str
    nodes: Sequence[str] = ()
    shape: str = ""
    setting: str = ""
    arithmetic: str = "float32"
    macs: int | None = None
    seconds: float = 0.0
    start_seconds: float = 0.0
    peak_share: float | None = None


@dataclass(frozen=True, kw_only=True)
class BackendRecord:
    """A backend that competed to deliver the result: the target's own first, then its rivals.

    Args:
        name: the backend.
        delivered: the result is its artifact.
        latency_ms: time of one undisturbed call; None where it was not timed.
        ratio: of a rival's time to that of the target's own backend on the same state, timed in turn.
        low, high: the 95 % interval of that ratio.
        why: what kept a rival from being delivered; empty where nothing did.
        fix: what would let it compete.
        failed: it broke, which is a bug of it, rather than refused.
    """

    name: str
    delivered: bool = False
    latency_ms: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    why: str = ""
    fix: str = ""
    failed: bool = False


@dataclass(frozen=True, kw_only=True)
class DataRecord:
    """One part of the data that a run used.

    Args:
        part: ``calibration``, ``evaluation`` or ``selection``.
        source: the file that was named, or that it was in memory.
        samples: how many.
        sha256: of their contents.
    """

    part: str
    source: str
    samples: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What the figures of a report rest on.

    Args:
        command: words of the command line that ask for the same.
        date: when it was written, in UTC (ISO 8601).
        model_sha256: of the input model's file.
        data: the parts of the data.
    """

    command: str = ""
    date: str = ""
    model_sha256: str = ""
    data: Sequence[DataRecord] = ()


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything a run reports. The first eleven fields are fixed keys of ``report.json``, the rest are extras.

    Args:
        model: the input model's file name.
        status: ``delivered``, ``kept_original`` (``model.onnx`` is the input model) or ``budget_not_met``.
        baseline: the input model in ONNX Runtime fp32.
        result: the model that was written.
        metric_name: the metric's name; None without data.
        threads: threads of the runtime while measuring.
        kernels: what a call of the result consists of, where a backend made kernels of its own and they run here.
        memory: bytes that a call of one sample needs, by what they hold, where that is known.
        usage: how the result is loaded, where that is not as ``model.onnx``; ``{folder}`` stands for its folder.
        verdict: the accuracy budget's verdict; None without data.
        speed: the never-worse gate's paired timing; None where it was not measured.
        backends: those that competed to deliver the result; none where the target has one alone.
        modelled_baseline_ms, modelled_ms: latency of the input model and of the result from the target's cost model,
            never mixed with measured ones; None where the target is this machine.
        unrun: nodes of the input model whose operators nothing here can run: what they compute was not verified.
        unverified: what only the device itself can tell, and was therefore not checked.
        dropped_for_worse: passes dropped because the result was slower or larger with them.
        dropped_for_fault: passes dropped because the result was not what it must be, whatever it gains, or missed the
            budget on the data of the final figure.
        failures: passes that broke, a bug of theirs, in a sentence each: the result is without them.
        not_done: what was asked for by name and did not happen, in a sentence each, with what would run in its place.
        warnings: what makes every figure of the report doubtful, above all data that does not go with the model.
        advice: what to do about a budget that was missed.
        changed_outputs: files of a replay whose bytes are not those that the recorded run wrote; None where nothing was
            replayed.
        provenance: command, date, model and data; None in reports that do not tell.
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
    kernels: Sequence[KernelRecord] = ()
    memory: Mapping[str, int] = field(default_factory=dict)
    usage: str = ""
    verdict: Verdict | None = None
    speed: SpeedVerdict | None = None
    backends: Sequence[BackendRecord] = ()
    modelled_baseline_ms: float | None = None
    modelled_ms: float | None = None
    dropped_for_worse: Sequence[str] = ()
    dropped_for_fault: Sequence[str] = ()
    unrun: Sequence[str] = ()
    unverified: Sequence[str] = ()
    notes: Sequence[str] = ()
    failures: Sequence[str] = ()
    not_done: Sequence[str] = ()
    warnings: Sequence[str] = ()
    advice: Sequence[str] = ()
    changed_outputs: Sequence[str] | None = None
    seed: int = 0
    seconds: float | None = None
    provenance: Provenance | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION


def to_json(report: Report) -> str:
    """The text of ``report.json``: keys in the records' order, ``schema_version`` first, no NaN."""
    table = plain(report)
    table = {"schema_version": table.pop("schema_version"), **table}
    return printable_json(json.dumps(table, indent=2, ensure_ascii=False, allow_nan=False)) + "\n"


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


def _report(table: Mapping[str, Any]) -> Report:
    return _record(Report, {**table, "baseline": table.get("baseline") or {}, "result": table.get("result") or {}})


def _record(kind: type[T], table: Mapping[str, Any]) -> T:
    hints = get_type_hints(kind)
    known = {KEYS.get(field.name, field.name): field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{known[key]: _value(hints[known[key]], value) for key, value in table.items() if key in known})


def _value(hint: Any, value: Any) -> Any:
    """A value of JSON as the type of its field has it: records are tables there, and tuples lists."""
    if value is None:
        return None
    kinds = (hint, *get_args(hint))
    record = next((kind for kind in kinds if isinstance(kind, type) and is_dataclass(kind)), None)
    if get_origin(hint) is Sequence:
        return tuple(value if record is None else (_record(record, row) for row in value))
    return value if record is None else _record(record, value)
