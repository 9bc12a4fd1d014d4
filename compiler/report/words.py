"""A report in words and formatted figures, the same for the terminal and the page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from graphpress.report.records import Report

UNKNOWN = "–"

_TITLES = {
    "delivered": "Delivered",
    "kept_original": "Kept the original",
    "budget_not_met": "Accuracy budget not met",
}


@dataclass(frozen=True)
class Comparison:
    """One figure before and after.

    Args:
        label: what it is.
        before, after: formatted values.
        change: the change in words; empty where one of the two is unknown.
        share: after / before, for a bar; None where it has no meaning.
        better: True when it improved, False when it got worse, None for neither.
    """

    label: str
    before: str
    after: str
    change: str = ""
    share: float | None = None
    better: bool | None = None


def title(report: Report) -> str:
    """The outcome in a word or three."""
    return _TITLES[report.status]


def outcome(report: Report) -> str:
    """The outcome in one sentence, with what it means for ``model.onnx``."""
    if report.status == "kept_original":
        return "nothing better was found: model.onnx is the input model"
    if report.status == "budget_not_met":
        kept = "the passes asked for cost more accuracy than allowed; model.onnx is the best model inside the budget"
        return f"{kept}: it {_gains(report)}"
    return f"the optimised model {_gains(report)}"


def budget(report: Report) -> str:
    """The accuracy verdict in one sentence, its interval included; empty without one."""
    verdict = report.verdict
    if verdict is None:
        return ""
    allowed = "no limit" if verdict.max_drop is None else f"at most {points(verdict.max_drop)} allowed"
    moved = (
        f"{'fell' if verdict.drop > 0 else 'rose'} by {points(abs(verdict.drop))}" if verdict.drop else "is the same"
    )
    interval = ""
    if verdict.low is not None and verdict.high is not None:
        interval = f", {verdict.confidence:.0%} interval of the drop {signed(verdict.low)} to {signed(verdict.high)}"
    samples = f" on {verdict.samples:,} samples" if verdict.samples else ""
    return f"{report.metric_name} {moved}{samples}{interval}; {allowed}"


def speed(report: Report) -> str:
    """The paired timing in one sentence; empty when nothing was timed."""
    timing = report.speed
    if timing is None:
        return ""
    threads = f"{report.threads} thread" + ("s" if report.threads != 1 else "")
    return (
        f"time ratio {timing.ratio:.3f} (95% interval {timing.low:.3f} to {timing.high:.3f}, "
        f"{timing.rounds} paired rounds, {threads})"
    )


def comparison(report: Report) -> list[Comparison]:
    """The before/after table."""
    before, after = report.baseline, report.result
    rows = [_metric_row(report)] if report.metric_name else []
    rows.append(_row("latency", before.latency_ms, after.latency_ms, milliseconds, ("faster", "slower")))
    rows.append(_row("file size", before.bytes, after.bytes, size, ("smaller", "larger")))
    rows.append(_row("parameters", before.parameters, after.parameters, count, ("fewer", "more")))
    rows.append(_row("MACs", before.macs, after.macs, count, ("fewer", "more")))
    rows.append(_nodes_row(report))
    if report.modelled_ms is not None:
        rows.append(Comparison(f"latency on {report.target}, modelled", UNKNOWN, milliseconds(report.modelled_ms)))
    return rows


def times(value: float) -> str:
    """A ratio with three significant digits: 1.52x."""
    return f"{value:.2f}x" if value < 100 else f"{value:.0f}x"


def points(drop: float) -> str:
    """A fraction in points: 0.01 is one point."""
    return f"{100 * drop:.2f} points"


def signed(drop: float) -> str:
    """A drop in points with its sign; zero has a plus."""
    return f"{round(100 * drop, 2) + 0.0:+.2f}"


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


def _metric_row(report: Report) -> Comparison:
    label, before, after = report.metric_name or "metric", report.baseline.metric, report.result.metric
    if before is None or after is None:
        return Comparison(label, fraction(before), fraction(after))
    drop = before - after
    change = f"{signed(-drop)} points" if drop else "same"
    better = None if drop == 0 else drop < 0
    verdict = report.verdict
    if drop and verdict is not None and verdict.low is not None and verdict.high is not None:
        change += f" [{signed(-verdict.high)}, {signed(-verdict.low)}]"
        better = None if verdict.low <= 0 <= verdict.high else better
    return Comparison(label, fraction(before), fraction(after), change, None, better)


def _row(
    label: str, before: float | None, after: float | None, form: Callable[[float | None], str], words: tuple[str, str]
) -> Comparison:
    was, is_now = form(before), form(after)
    if not before or not after:
        return Comparison(label, was, is_now)
    ratio = before / after
    if abs(ratio - 1) < 0.005:
        return Comparison(label, was, is_now, "same" if before == after else "about the same", after / before)
    change = f"{times(ratio)} {words[0]}" if ratio > 1 else f"{times(1 / ratio)} {words[1]}"
    return Comparison(label, was, is_now, change, after / before, ratio > 1)


def _nodes_row(report: Report) -> Comparison:
    """Fewer nodes are better; more are not worse, since Q/DQ pairs that the runtime absorbs count too."""
    row = _row("nodes", report.baseline.nodes, report.result.nodes, count, ("fewer", "more"))
    return row if row.better else replace(row, better=None)


def _gains(report: Report) -> str:
    rows = {row.label: row for row in comparison(report)}
    if gains := [rows[label].change for label in ("file size", "latency") if rows[label].better]:
        return f"is {' and '.join(gains)}"
    return f"has {rows['nodes'].change} nodes" if rows["nodes"].better else "is neither smaller nor faster"
