"""A report in a few lines: as text for ``print``, as a table for notebooks."""

from __future__ import annotations

import html
from pathlib import Path

from graphpress.printable import printable
from graphpress.report import sentences
from graphpress.report.records import Report


def brief_text(report: Report, output: Path) -> str:
    """The outcome, the figures before and after, and where the files are."""
    rows = [(row.label, row.before, row.after, row.change) for row in sentences.comparison(report)]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        f"  {label:<{widths[0]}}  {before:>{widths[1]}} → {after:>{widths[2]}}  {change}".rstrip()
        for label, before, after, change in rows
    ]
    every = [f"{sentences.title(report)}: {sentences.outcome(report)}.", *lines, f"  in {output}"]
    return "\n".join(map(printable, every))


def brief_html(report: Report, output: Path) -> str:
    """The same as a table. Names in a model are untrusted text: everything is escaped."""
    head = "".join(f"<th>{name}</th>" for name in ("", "before", "after", ""))
    rows = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in (row.label, row.before, row.after, row.change))}</tr>"
        for row in sentences.comparison(report)
    )
    page = escape(str(output / "report.html"))
    return (
        f"<p><b>{escape(sentences.title(report))}</b>: {escape(sentences.outcome(report))}.</p>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        f'<p><a href="{page}">{page}</a></p>'
    )


def escape(text: str) -> str:
    """Text for a page."""
    return html.escape(printable(text))
