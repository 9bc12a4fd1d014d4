"""A report as sentences and formatted figures, the same for the terminal and the page."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from graphpress.errors import listed
from graphpress.manager.records import TIME_IS_UP, PassRecord, SpeedVerdict, Verdict
from graphpress.report.records import BackendRecord, LayerRecord, Report

UNKNOWN = "–"
UNCHECKED = "not checked"
NOTHING_TO_CHANGE = "nothing to change"
ABOUT_THE_SAME = "about the same"
FASTER_OR_SLOWER = ("faster", "slower")

_TITLES = {
    "delivered": "Delivered",
    "kept_original": "Kept the original",
    "budget_not_met": "Accuracy budget not met",
}

_FLOATS = ("float64", "float32", "float16", "bfloat16")
_LONGEST = 200
_MOST = 3
_SAME = 0.005
"""Figures that differ by less are about the same."""


@dataclass(frozen=True)
class ComparisonRow:
    """One figure before and after.

    Args:
        label: what it is.
        before, after: formatted values.
        change: the change as text; empty where one of the two is unknown.
        share: after / before, for a bar; None where it has no meaning.
        better: True when it improved, False when it got worse, None for neither.
    """

    label: str
    before: str
    after: str
    change: str = ""
    share: float | None = None
    better: bool | None = None


@dataclass(frozen=True)
class Undone:
    """Passes that were rolled back.

    Args:
        name: of the passes, joined by a plus.
        why: the reason.
        points: how the metric moved with them; empty where it was not measured.
        fix: what to do about it.
    """

    name: str
    why: str
    points: str
    fix: str


def title(report: Report) -> str:
    """The outcome in a few words."""
    return _TITLES[report.status] + (" without what was asked for" if is_unmet(report) else "")


def is_unmet(report: Report) -> bool:
    """Whether something was delivered in place of what was asked for by name."""
    return report.status == "delivered" and bool(report.not_done)


def outcome(report: Report) -> str:
    """The outcome in one sentence, with what it means for ``model.onnx``; backends and passes that broke, requests that
    were not met and what the time did not suffice for come first, last what was dropped because it was not right, or
    missed the budget, and whether a replay came out as recorded.
    """
    faults = [f"dropped {state}" for state in report.dropped_for_fault]
    unmet = dict.fromkeys((*_failed(report), *report.failures, *report.not_done))
    return "; ".join(
        (*unmet, *_too_late(report), _outcome(report), *_unrun(report), *_given_up(report), *faults, *_replay(report))
    )


def _failed(report: Report) -> list[str]:
    """The rivals that broke, and who made what is delivered."""
    return [
        f"the backend {backend.name} failed: {_shortened(backend.why)}; {report.backend} compiled the result"
        for backend in report.backends[1:]
        if backend.failed
    ]


def _too_late(report: Report) -> list[str]:
    """How many passes the time limit left no time for."""
    late = sum(refusal.why == TIME_IS_UP for refusal in report.refusals)
    return [f"the time limit left no time for {plural(late, 'pass', 'passes')}"] if late else []


def _unrun(report: Report) -> list[str]:
    """That the numbers of the whole were not verified, where something of it cannot be run."""
    return [f"not verified with {listed(report.unrun)}, which nothing here can run"] if report.unrun else []


def _given_up(report: Report) -> list[str]:
    """The passes that the never-worse check left out, and how the result was with them."""
    names = {record.name for record in report.passes}
    return [f"left out {state}" for state in report.dropped_for_worse if names & set(state.split(":")[0].split("+"))]


def _replay(report: Report) -> list[str]:
    """Whether a replay came out as the recorded run."""
    changed = report.changed_outputs
    if changed is None:
        return []
    if not changed:
        return ["the same bytes as recorded"]
    return [f"NOT the bytes that were recorded: {', '.join(changed[:_MOST])}{' …' if len(changed) > _MOST else ''}"]


def failures(records: Iterable[PassRecord]) -> list[str]:
    """A sentence for each pass that broke: the result is without it, and somebody has a bug to mend."""
    return [broken(record) for record in records if record.failure]


def broken(record: PassRecord) -> str:
    """That a pass broke, and how."""
    return f"the pass {record.name} failed: {_shortened(record.failure)}; its changes were dropped"


def not_done(name: str, why: str, alternative: str) -> str:
    """That something which was asked for by name did not happen.

    Args:
        name: of the pass.
        why: the reason.
        alternative: what would run in its place, as an option; empty for nothing.
    """
    return f"the pass {name} was not done: {_shortened(why)}{f' ({alternative} would run)' if alternative else ''}"


def _shortened(failure: str) -> str:
    """The first line, as far as it fits into a sentence."""
    line = failure.strip().splitlines()[0]
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"


def _outcome(report: Report) -> str:
    if report.status == "kept_original":
        return "; ".join(["nothing better was found: model.onnx is the input model", *_refused_by_default(report)])
    if report.status == "budget_not_met":
        kept = "the passes asked for cost more accuracy than allowed; model.onnx is the best model inside the budget"
        return f"{kept}: it {'is the input model' if _unchanged(report) else _gains(report) + _winner(report)}"
    lossy = [record for record in report.passes if record.transaction is not None]
    unchecked = lossy and report.verdict is None and report.result.metric is None
    doubt = "; without data its accuracy is not checked" if unchecked else ""
    gains = f"{_gains(report)}{_winner(report)}"
    return "; ".join([f"the optimized model {gains}{doubt}", *_refused_by_default(report), *_few(report)])


def _refused_by_default(report: Report) -> list[str]:
    """Which lossy passes of the default recipe did nothing, and why; those that came too late are told of by number."""
    if report.not_done:
        return []
    lossy = (record for record in report.passes if record.transaction is not None and record.status == "refused")
    whys = {name: _why_refused(report, name) for name in dict.fromkeys(record.name for record in lossy)}
    return [f"{name} refused: {why}" for name, why in whys.items() if why != TIME_IS_UP]


def _why_refused(report: Report, name: str) -> str:
    whys = (refusal.why for refusal in report.refusals if refusal.pass_name == name)
    return _shortened(next(whys, "for the reason below"))


def _winner(report: Report) -> str:
    """That a rival of the target's own backend made what is delivered, and what that gains."""
    winner = next((backend for backend in report.backends[1:] if backend.delivered), None)
    if winner is None or winner.ratio is None:
        return ""
    return f", compiled by {winner.name} ({times(1 / winner.ratio)} faster than in {report.backends[0].name})"


def contest(report: Report) -> list[str]:
    """Why each rival of the target's own backend is not delivered: a sentence each."""
    return [_lost(backend, report.backends[0].name) for backend in report.backends[1:] if backend.why]


def _lost(backend: BackendRecord, own: str) -> str:
    fix = f" ({backend.fix})" if backend.fix else ""
    if backend.ratio is None:
        return f"not compiled by {backend.name}: {_shortened(backend.why)}{fix}"
    figures = f"{backend.ratio:.3f} of the time in {own}, {backend.low:.3f} to {backend.high:.3f}"
    return f"what {backend.name} compiled is not delivered: {_shortened(backend.why)} ({figures})"


def memory(report: Report) -> str:
    """What a call of one sample needs, and for what; empty where that is not known."""
    if not report.memory:
        return ""
    parts = ", ".join(f"{size(count)} of {what}" for what, count in report.memory.items())
    return f"a call of one sample needs {size(sum(report.memory.values()))} of memory: {parts}"


def _few(report: Report) -> list[str]:
    """That most products stay in floats, where integers or shorter floats were asked of some."""
    products = [layer for layer in report.layers if layer.macs]
    narrow = [layer for layer in products if layer.asked not in _FLOATS]
    became = sum(layer.became not in _FLOATS for layer in narrow)
    if not narrow or 2 * became >= len(products):
        return []
    asked = ", ".join(dict.fromkeys(layer.asked for layer in narrow))
    return [f"{asked} in only {became} of {plural(len(products), 'product')}"]


def undone(report: Report) -> list[Undone]:
    """The transactions, and the passes outside of one, that were rolled back: in the order of the run."""
    groups: dict[object, list[PassRecord]] = {}
    for at, record in enumerate(report.passes):
        if record.status == "rolled_back":
            groups.setdefault(("pass", at) if record.transaction is None else record.transaction, []).append(record)
    return [_undone(report, records) for records in groups.values()]


def _undone(report: Report, records: Sequence[PassRecord]) -> Undone:
    """Why passes that share a verdict were rolled back, by how many points where that was measured, and what to do."""
    last, failed = records[-1], [broken(record) for record in records if record.failure]
    notes = [note for record in records for note in record.notes if note != NOTHING_TO_CHANGE]
    why = "; ".join(dict.fromkeys((*failed, *notes))) or "its result was not accepted"
    points_lost = ""
    if last.metric is not None and report.baseline.metric is not None:
        points_lost = f"{signed(last.metric - report.baseline.metric)} points"
    return Undone("+".join(record.name for record in records), why, points_lost, _way_out(report, records, failed))


def _way_out(report: Report, records: Sequence[PassRecord], failed: Sequence[str]) -> str:
    if failed:
        return "report it to whoever wrote the pass; --debug shows the traceback"
    if any(state.partition(":")[0].split("+")[-1] == records[-1].name for state in report.dropped_for_worse):
        return "--allow-worse keeps what is slower or larger"
    return next(iter(report.advice), "allow more with --max-drop")


def budget(report: Report) -> str:
    """The accuracy verdict in one sentence, its interval included; empty without one."""
    verdict = report.verdict
    if verdict is None:
        return ""
    allowed = "no limit" if verdict.max_drop is None else f"at most {verdict.told(verdict.max_drop)} allowed"
    moved = (
        f"{'fell' if verdict.drop > 0 else 'rose'} by {verdict.told(abs(verdict.drop))}{_as_error(report)}"
        if verdict.drop
        else "is the same"
    )
    interval = ""
    if verdict.low is not None and verdict.high is not None:
        interval = f", {verdict.confidence:.0%} interval of the drop {signed(verdict.low)} to {signed(verdict.high)}"
    samples = f" on {plural(verdict.samples, 'sample')}" if verdict.samples else ""
    return f"{report.metric_name} {moved}{samples}{interval}; {allowed}{'' if _unchanged(report) else _doubt(verdict)}"


def speed(report: Report) -> str:
    """The paired timing in one sentence, and what it means for "never slower"; empty when nothing was timed."""
    timing = report.speed
    if timing is None:
        return ""
    place = "beyond" if timing.low > timing.slower_above else "within"
    verdict = f"; {place} the tolerance of never slower: a lower bound of at most {timing.slower_above:.2f}"
    return (
        f"time ratio {timing.ratio:.3f} (95% interval {timing.low:.3f} to {timing.high:.3f}, "
        f"{plural(timing.pairs, 'pair')} of sessions, {plural(report.threads, 'thread')})"
        f"{verdict if timing.high >= 1 else ''}"
    )


def precisions(report: Report) -> list[tuple[str, list[tuple[str, int]]]]:
    """For each arithmetic that was asked for, what how many layers became; the most first.

    Empty for the input model, for which no arithmetic was requested.
    """
    if _unchanged(report):
        return []
    counters: dict[str, Counter[str]] = {}
    for layer in report.layers:
        if layer.asked != "float32":
            counters.setdefault(layer.asked, Counter())[layer.became or UNCHECKED] += 1
    by_count = sorted(counters.items(), key=lambda item: -item[1].total())
    return [(asked, became.most_common()) for asked, became in by_count]


def precision_summary(report: Report) -> str:
    """The same in a sentence; empty where nothing was asked for."""
    return "; ".join(
        f"asked for {asked} {sum(count for _, count in became)}, became "
        + ", ".join(f"{kind} {count}" for kind, count in became)
        for asked, became in precisions(report)
    )


def dropped(report: Report) -> str:
    """What the never-worse check left out, and how to have it all the same; empty when it left out nothing."""
    if not report.dropped_for_worse:
        return ""
    names = ", ".join(report.dropped_for_worse)
    slower = f"slower means a time ratio whose lower bound is above {SpeedVerdict.slower_above:.2f}"
    return f"left out by the never-worse check ({slower}; --allow-worse keeps what is slower or larger): {names}"


def comparison(report: Report) -> list[ComparisonRow]:
    """The before/after table."""
    before, after = report.baseline, report.result
    rows = [_metric_row(report)] if report.metric_name else []
    if before.latency_ms is not None or after.latency_ms is not None:
        rows.append(_latency_row(report))
    rows.append(_row("file size", before.bytes, after.bytes, size, ("smaller", "larger")))
    rows.append(_row("parameters", before.parameters, after.parameters, count, ("fewer", "more")))
    rows.append(_row("MACs", before.macs, after.macs, count, ("fewer", "more")))
    rows.append(_nodes_row(report))
    if report.modelled_ms is not None:
        label = f"least time on {report.target}, modelled"
        times_ms = (milliseconds(report.modelled_baseline_ms), milliseconds(report.modelled_ms))
        rows.append(ComparisonRow(label, *times_ms))  # the ratio of two lower bounds bounds nothing
    return rows


def times(value: float) -> str:
    """A ratio with three significant digits: 1.52x."""
    return f"{value:.2f}x" if value < 100 else f"{value:.0f}x"


def plural(number: int, noun: str, several: str = "") -> str:
    """A number with its noun; ``several`` is the plural where that is not made with an s.

    >>> plural(1, "sample"), plural(5000, "sample"), plural(2, "pass", "passes")
    ('1 sample', '5,000 samples', '2 passes')
    """
    return f"{number:,} {noun if number == 1 else several or f'{noun}s'}"


def channels(layer: LayerRecord) -> str:
    """How many outputs a layer has, and had where that is another number."""
    if layer.channels is None or layer.channels == layer.channels_before:
        return UNKNOWN if layer.channels is None else str(layer.channels)
    return f"{layer.channels_before} → {layer.channels}"


def signed(drop: float) -> str:
    """A drop in points with its sign; zero has a plus."""
    return f"{round(100 * drop, 2) + 0.0:+.2f}"


def percent(share: float) -> str:
    """A share in percent."""
    return f"{share:.1%}"


def fraction(value: float | None) -> str:
    """A metric's value."""
    return UNKNOWN if value is None else f"{value:.4f}"


def milliseconds(value: float | None) -> str:
    """A time in milliseconds, three significant digits."""
    if value is None:
        return UNKNOWN
    return f"{value:.3g} ms" if value < 1000 else f"{value:,.0f} ms"


def seconds(value: float | None) -> str:
    """A time in seconds."""
    return UNKNOWN if value is None else f"{value:.2f} s"


def size(value: float | None) -> str:
    """A size in bytes with a decimal prefix."""
    return UNKNOWN if value is None else f"{_scaled(value)}B"


def count(value: float | None) -> str:
    """A count: exact below ten thousand, else with a prefix."""
    if value is None:
        return UNKNOWN
    return f"{value:,.0f}" if value < 10_000 else _scaled(value).rstrip()


def _scaled(value: float) -> str:
    for prefix, unit in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= unit:
            return f"{value / unit:.2f} {prefix}"
    return f"{value:.0f} "


def _metric_row(report: Report) -> ComparisonRow:
    label, before, after = report.metric_name or "metric", report.baseline.metric, report.result.metric
    if before is None or after is None:
        return ComparisonRow(label, fraction(before), fraction(after))
    drop = before - after
    change = _moved(drop, report.verdict) if drop else "same"
    better = None if drop == 0 else drop < 0
    verdict = report.verdict
    if drop and verdict is not None and verdict.low is not None and verdict.high is not None:
        change += f" [{signed(-verdict.high)}, {signed(-verdict.low)}]"
        better = None if verdict.low <= 0 <= verdict.high else better
    return ComparisonRow(label, fraction(before), fraction(after), change, None, better)


def _moved(drop: float, verdict: Verdict | None) -> str:
    """By how much a metric changed, with its sign."""
    if verdict is None or verdict.unit == "points":
        return f"{signed(-drop)} points"
    return f"{-drop:+.4g} {verdict.unit}"


def _as_error(report: Report) -> str:
    """What a drop of closeness is as an error, and as a signal-to-noise ratio."""
    verdict = report.verdict
    if verdict is None or (report.metric_name or "").partition("@")[0] != "closeness" or not 0 < verdict.drop < 1:
        return ""
    return f" (an error of {verdict.drop:.2%}, {-20 * math.log10(verdict.drop):.1f} dB)"


def _doubt(verdict: Verdict) -> str:
    """That the samples are too few for the budget, where they are."""
    if verdict.max_drop is None or verdict.low is None or verdict.high is None:
        return ""
    if not verdict.low <= verdict.max_drop < verdict.high:
        return ""
    few = (
        f": {plural(verdict.samples, 'sample')} cannot tell {verdict.told(verdict.max_drop)}" if verdict.samples else ""
    )
    return f"; the interval reaches beyond the budget{few}"


def _unchanged(report: Report) -> bool:
    """Whether the input model was kept, of which no sample can be in doubt."""
    return report.baseline == report.result


def _row(
    label: str, before: float | None, after: float | None, form: Callable[[float | None], str], labels: tuple[str, str]
) -> ComparisonRow:
    row = ComparisonRow(label, form(before), form(after))
    return _changed(row, after / before, labels) if before and after else row


def _latency_row(report: Report) -> ComparisonRow:
    """The change is the ratio that was measured, from which the time after follows."""
    before, after, timing = report.baseline.latency_ms, report.result.latency_ms, report.speed
    if timing is None:
        return _row("latency", before, after, milliseconds, FASTER_OR_SLOWER)
    row = ComparisonRow("latency", milliseconds(before), milliseconds(after))
    if timing.low <= 1 <= timing.high:
        return replace(row, change=ABOUT_THE_SAME, share=timing.ratio)
    return _changed(row, timing.ratio, FASTER_OR_SLOWER)


def _changed(row: ComparisonRow, share: float, labels: tuple[str, str]) -> ComparisonRow:
    """The row with its change as text: the first where the figure fell to this share, else the second."""
    if share == 1:
        return replace(row, change="same", share=share)
    if abs(1 / share - 1) < _SAME:
        return replace(row, change=ABOUT_THE_SAME, share=share)
    change = f"{times(1 / share)} {labels[0]}" if share < 1 else f"{times(share)} {labels[1]}"
    return replace(row, change=change, share=share, better=share < 1)


def _nodes_row(report: Report) -> ComparisonRow:
    """Fewer nodes are better; more are not worse, since Q/DQ pairs that the runtime absorbs count too."""
    row = _row("nodes", report.baseline.nodes, report.result.nodes, count, ("fewer", "more"))
    return row if row.better else replace(row, better=None)


def _gains(report: Report) -> str:
    """What became better, and what became worse with it."""
    rows = {row.label: row for row in comparison(report)}
    changed = [rows[label] for label in ("file size", "latency") if label in rows and rows[label].better is not None]
    if changed:
        return f"is {' and '.join(row.change for row in changed)}"
    return f"has {rows['nodes'].change} nodes" if rows["nodes"].better else "is neither smaller nor faster"
