"""What was asked for by name, and did not happen: that is no success, however good the rest is.

Asked for by name are, where a recipe or passes were given, its lossy passes and those that were called by their own
name. What the budget or the never-worse check gave up has a verdict of its own, and is not told here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from graphpress.driver.config import RunConfig
from graphpress.manager.contract import Pass
from graphpress.manager.pass_run import PassRun
from graphpress.manager.records import PassRecord
from graphpress.manager.run import Run
from graphpress.report.sentences import broken, not_done


def unmet_requests(config: RunConfig, run: Run, records: Sequence[PassRecord], judged: Sequence[str]) -> list[str]:
    """A sentence for each pass that was asked for by name and did nothing, with what would do something in its place.

    Args:
        config: what was asked.
        run: what came of it.
        records: of its passes, as the report has them.
        judged: transactions that a verdict gave up, by the names of their passes.
    """
    if (config.options.recipe is None and config.options.passes is None) or config.recipe.manifest is not None:
        return []
    named = {name for transaction in judged for name in transaction.split("+")}
    asked = zip(run.pass_runs, records, strict=True)
    return list(_unmet((pair for pair in asked if _is_request(pair[0].pass_, config)), named))


def _is_request(pass_: Pass, config: RunConfig) -> bool:
    return pass_.name in config.recipe.explicit or pass_.is_goal


def _unmet(asked: Iterator[tuple[PassRun, PassRecord]], judged: set[str]) -> Iterator[str]:
    pairs = list(asked)
    done = {pass_run.transaction for pass_run, record in pairs if record.changes and pass_run.pass_.is_goal}
    for pass_run, record in pairs:
        if record.failure:
            yield broken(record)
        elif record.status == "applied" and pass_run.transaction in done:
            continue  # passes that share a goal reach it together
        elif record.name not in judged and (why := _reason(pass_run, record)):
            yield not_done(record.name, why, pass_run.alternative)


def _reason(pass_run: PassRun, record: PassRecord) -> str:
    """Why the pass did nothing; empty where it did something, or found that there is nothing to do."""
    whys = [refusal.why for refusal in pass_run.refusals]
    if record.status == "refused":
        return whys[0]
    if record.status == "rolled_back":
        return next((note for note in reversed(record.notes) if note.startswith("dropped: ")), "").removeprefix(
            "dropped: "
        )
    if record.changes or not pass_run.pass_.is_goal:
        return ""
    return next(iter([*whys, *record.notes]), "nothing to change")
