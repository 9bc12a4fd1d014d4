"""How a run of the command line ended, and what no run may do, whatever it is given."""

from __future__ import annotations

import re
from pathlib import Path

from mutants.pipelines import OUTPUT
from mutants.process import OWN_NAMES, Ended

BUDGET_NOT_MET = 4
NOT_DONE = 7
ERRORS = (2, 3, 5, 6)
"""Usage, bad model or data, backend unavailable, a fault of the environment; 1 is a bug."""
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def fault_of(ended: Ended, folder: Path, before: set[str]) -> str | None:
    """What is wrong with how it ended, or None.

    Args:
        ended: the process.
        folder: where it ran.
        before: what lay there.
    """
    if ended.timed_out:
        return "did not end in time"
    if ended.code < 0:
        return f"died of signal {-ended.code}: {last_line(ended.said)}"
    if "Traceback" in ended.said:
        return f"traceback: {last_line(ended.said)}"
    if ended.code not in (0, BUDGET_NOT_MET, NOT_DONE, *ERRORS):
        return f"exit code {ended.code}: {headline(ended.said)}"
    if control := _CONTROL.search(ended.said):
        return f"prints the control character {control.group()!r}"
    if ended.code in ERRORS and len(re.findall("^error:", ended.said, re.MULTILINE)) != 1:
        return f"says not exactly one error: {ended.said[:300]!r}"
    strange = everything(folder) - before
    if ended.code not in ERRORS:
        strange = {name for name in strange if name != OUTPUT and not name.startswith(f"{OUTPUT}/")}
    return f"leaves behind {sorted(strange)[:5]}" if strange else None


def everything(folder: Path) -> set[str]:
    """Paths of all that lies below it, but for what the process itself is given."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")} - set(OWN_NAMES)


def headline(said: str) -> str:
    """The line that says what is wrong."""
    return next((line for line in said.splitlines() if line.startswith("error:")), last_line(said))[:400]


def last_line(said: str) -> str:
    """The last that is not empty."""
    lines = [line for line in said.splitlines() if line.strip()]
    return lines[-1][:400] if lines else "it says nothing"
