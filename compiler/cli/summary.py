"""What a run prints on stdout when it is done."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from graphpress.cli.text import joined, styled, table
from graphpress.report import sentences
from graphpress.report.decomposed import decomposed_summary
from graphpress.report.records import Report

MAX_REASONS = 6
MAX_PLACES = 4
_COLORS = {"delivered": "green", "kept_original": "blue", "budget_not_met": "yellow"}


def summary(report: Report, output: Path) -> str:
    """The outcome in words, before and after, what was left out and why, and where the files are."""
    parts = [_headline(report), _figures(report), joined(_remarks(report)), _files(report, output)]
    return joined((part for part in parts if part), "\n\n")


def _headline(report: Report) -> str:
    color = "yellow" if sentences.is_unmet(report) else _COLORS[report.status]
    title = styled(sentences.title(report), fg=color, bold=True)
    return joined([title, f": {sentences.outcome(report)}."], "")


def _figures(report: Report) -> str:
    rows = [(f"  {row.label}", row.before, row.after, _colored(row)) for row in sentences.comparison(report)]
    return table(rows, head=("", "before", "after", ""), right=(1, 2))


def _colored(row: sentences.ComparisonRow) -> str:
    if row.better is None or not row.change:
        return row.change
    return styled(row.change, fg="green" if row.better else "red")


def _remarks(report: Report) -> Iterator[str]:
    for warning in report.warnings:
        yield joined([styled("warning:", fg="yellow", bold=True), warning], " ")
    if sentence := sentences.budget(report):
        yield f"accuracy: {sentence}"
    if sentence := sentences.speed(report):
        yield f"speed: {sentence}"
    if sentence := sentences.memory(report):
        yield f"memory: {sentence}"
    if sentence := sentences.precision_summary(report):
        yield f"layers: {sentence}"
    if sentence := decomposed_summary(report):
        yield f"low rank: {sentence}"
    if report.advice:
        yield f"what to try: {', or '.join(report.advice)}"
    if sentence := sentences.dropped(report):
        yield sentence
    yield from _passes_undone(report)
    yield from (f"note: {note}" for note in (*sentences.contest(report), *report.notes))
    yield from (f"not verified here: {gap}" for gap in report.unverified)
    yield from _refusals(report)


def _passes_undone(report: Report) -> Iterator[str]:
    """Passes that broke, and those that were rolled back for a reason not told yet."""
    dropped = (*report.dropped_for_worse, *report.dropped_for_fault)
    reported = {name for entry in dropped for name in entry.partition(":")[0].split("+")}
    for record in report.passes:
        if record.failure:
            yield f"failed: {record.name} ({record.failure}), a bug of that pass; --debug shows the traceback"
        elif record.status == "rolled_back" and record.name not in reported:
            reason = f" ({'; '.join(record.notes)})" if record.notes else ""
            yield f"rolled back: {record.name}{reason}"


def _refusals(report: Report) -> Iterator[str]:
    """One line a reason: refusals of several passes for the same reason share it."""
    refusals = list(dict.fromkeys(report.refusals))
    if not refusals:
        return
    yield f"not done ({len(refusals)}):"
    places: dict[tuple[str, str], list[str]] = {}
    for refusal in refusals:
        place = "" if refusal.where in ("", refusal.pass_name) else f" at {refusal.where}"
        places.setdefault((refusal.why, refusal.fix), []).append(f"{refusal.pass_name}{place}")
    for (why, fix), where in list(places.items())[:MAX_REASONS]:
        shown = ", ".join(where[:MAX_PLACES]) + (
            f" and {len(where) - MAX_PLACES} more" if len(where) > MAX_PLACES else ""
        )
        yield f"  {shown}: {why}{f' – {fix}' if fix else ''}"
    if len(places) > MAX_REASONS:
        yield f"  … {len(places) - MAX_REASONS} more reasons in report.html"


def _files(report: Report, output: Path) -> str:
    lines = [f"model:  {output / 'model.onnx'}", f"report: {output / 'report.html'}"]
    if report.usage:
        lines.append(f"use it: {report.usage.replace('{folder}', str(output))}")
    return joined(lines)
