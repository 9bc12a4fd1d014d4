"""``report.html``: one self-contained page that opens anywhere, offline, in light and dark.

Names in a model are untrusted text: everything goes through the template's autoescape, and the charts are drawn as
SVG elements by the template itself, from numbers computed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphpress.manager.records import PassRecord
from graphpress.plain import plain
from graphpress.printable import printable
from graphpress.report import decomposed, sentences
from graphpress.report.records import LayerRecord, Report

if TYPE_CHECKING:
    import jinja2

TEMPLATE = Path(__file__).with_name("report.html.j2")
MAX_PLOT_BARS = 120
TILES = ("latency", "file size", "parameters", "MACs")
"""Rows of the comparison that stand at the head of the page, beside the metric."""


@dataclass(frozen=True)
class Bar:
    """One stacked bar of the time line: offsets and widths are percentages of the whole.

    Args:
        record: the pass.
        start: where it begins.
        own, verify, measure: widths of its three parts.
    """

    record: PassRecord
    start: float
    own: float
    verify: float
    measure: float


def render_html(report: Report) -> str:
    """The page as text; it refers to nothing outside itself."""
    return _environment().from_string(TEMPLATE.read_text(encoding="utf-8")).render(**_view(report))


def write_html(report: Report, path: Path) -> None:
    """Write ``report.html``."""
    path.write_text(render_html(report), encoding="utf-8")


def timeline(passes: Sequence[PassRecord]) -> list[Bar]:
    """The passes one after another, as percentages of their total time."""
    total = sum(_seconds(record) for record in passes) or 1.0
    bars, start = [], 0.0
    for record in passes:
        parts = (record.seconds, record.verify_seconds, record.measure_seconds)
        own, verify, measure = (100 * part / total for part in parts)
        bars.append(Bar(record, start, own, verify, measure))
        start += own + verify + measure
    return bars


def plotted(layers: Sequence[LayerRecord], most: int = MAX_PLOT_BARS) -> list[LayerRecord]:
    """The layers of the MACs plot: those that compute, in the order of the graph; the heaviest where there are many."""
    computing = [layer for layer in layers if layer.macs]
    if len(computing) <= most:
        return computing
    floor = sorted((layer.macs or 0 for layer in computing), reverse=True)[most - 1]
    return [layer for layer in computing if (layer.macs or 0) >= floor][:most]


def tiles(report: Report) -> list[sentences.ComparisonRow]:
    """The figures at the head of the page, accuracy first; each with a share of the input model's for its bar."""
    rows = sentences.comparison(report)
    before, after = report.baseline.metric, report.result.metric
    if report.metric_name and before and after is not None and before > 0:
        rows[0] = replace(rows[0], share=max(after, 0.0) / before)
    shown = (report.metric_name, *TILES)
    return [row for row in rows if row.share is not None and row.label in shown]


def is_idle(record: PassRecord) -> bool:
    """Whether a pass found nothing to change, and says nothing else: it is folded away."""
    notes = [note for note in record.notes if note != sentences.NOTHING_TO_CHANGE]
    return record.status == "applied" and not record.changes and not notes


def _view(report: Report) -> dict[str, Any]:
    layers, bars = plotted(report.layers), timeline(report.passes)
    rated = [layer for layer in report.layers if layer.sqnr is not None]
    return {
        "report": report,
        "sentences": sentences,
        "outcome": sentences.outcome(report),
        "rows": sentences.comparison(report),
        "refusals": list(dict.fromkeys(report.refusals)),
        "tiles": tiles(report),
        "undone": sentences.undone(report),
        "bars": [bar for bar in bars if not is_idle(bar.record)],
        "idle": [bar for bar in bars if is_idle(bar.record)],
        "idle_seconds": sum(_seconds(record) for record in report.passes if is_idle(record)),
        "total_seconds": sum(_seconds(record) for record in report.passes),
        "plot": layers,
        "plot_peak": max((layer.macs or 0 for layer in layers), default=0),
        "macs_total": sum(layer.macs or 0 for layer in report.layers),
        "macs_by_form": _macs_by_form(report.layers),
        "computing": sum(1 for layer in report.layers if layer.macs),
        "timed": any(layer.seconds is not None for layer in report.layers),
        "rated": bool(rated),
        "weakest": min(rated, key=lambda layer: layer.sqnr or 0.0, default=None),
        "resized": any(layer.channels != layer.channels_before for layer in report.layers),
        "ranks": decomposed.ranks,
        "decomposed": decomposed.decomposed(report),
        "notes": [*sentences.contest(report), *report.notes],
        "timed_backends": [backend for backend in report.backends if backend.latency_ms is not None],
        "kernels_seconds": sum(kernel.seconds for kernel in report.kernels) or 1.0,
        "plain": plain,
    }


def _macs_by_form(layers: Sequence[LayerRecord]) -> list[tuple[str, int]]:
    """MACs by the arithmetic they run in, the most first."""
    totals: dict[str, int] = {}
    for layer in layers:
        if layer.macs:
            form = layer.became or sentences.UNCHECKED
            totals[form] = totals.get(form, 0) + layer.macs
    return sorted(totals.items(), key=lambda item: -item[1])


def _seconds(record: PassRecord) -> float:
    return record.seconds + record.verify_seconds + record.measure_seconds


def _environment() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, finalize=_finalized, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["capital"] = lambda text: text[:1].upper() + text[1:]
    return environment


def _finalized(value: Any) -> Any:
    """What the template puts in: of text, what shows itself; markup of its own stays."""
    return printable(value) if type(value) is str else value
