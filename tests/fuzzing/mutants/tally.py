"""What became of many trials."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from mutants.judge import Kind, Verdict
from mutants.pipelines import PIPELINES

KINDS: dict[Kind, str] = {"error": "clean error", "right": "accepted and correct", "finding": "anything else"}
_VARYING = re.compile(r"""'[^']*'|"[^"]*"|\[[^\]]*\]|0x[0-9a-f]+|-?\d[\d.e+-]*""")
"""Names and numbers in a sentence."""


@dataclass(frozen=True)
class Trial:
    """One mutant through one pipeline."""

    index: int
    seed: str
    pipeline: str
    changes: tuple[str, ...]
    verdict: Verdict

    def __str__(self) -> str:
        return f"{self.index} {self.seed} -> {self.pipeline}: {'; '.join(self.changes)}\n    {self.verdict.why}"


@dataclass
class Tally:
    """What became of many trials."""

    counts: dict[str, Counter[Kind]] = field(default_factory=lambda: defaultdict(Counter))
    ways: Counter[str] = field(default_factory=Counter)
    findings: list[Trial] = field(default_factory=list)

    def add(self, trial: Trial) -> None:
        """Count one."""
        self.counts[trial.pipeline][trial.verdict.kind] += 1
        if trial.verdict.kind == "right":
            self.ways[trial.verdict.why] += 1
        if trial.verdict.kind == "finding":
            self.findings.append(trial)

    @property
    def total(self) -> Counter[Kind]:
        """Trials of each kind, through whatever pipeline."""
        return sum(self.counts.values(), Counter())

    def distinct(self) -> dict[str, list[Trial]]:
        """Findings that say the same but for names and numbers."""
        groups: dict[str, list[Trial]] = defaultdict(list)
        for trial in self.findings:
            groups[_VARYING.sub("…", trial.verdict.why)[:120]].append(trial)
        return groups

    def figures(self) -> dict[str, dict[Kind, int]]:
        """The counts by pipeline."""
        return {name: {kind: self.counts[name][kind] for kind in KINDS} for name in PIPELINES}

    def __str__(self) -> str:
        ways = [f"{count:8} {way}" for way, count in self.ways.most_common()]
        groups = sorted(self.distinct().items(), key=lambda item: -len(item[1]))
        faults = [f"{len(trials):8} x {text}; first {min(trial.index for trial in trials)}" for text, trials in groups]
        return "\n".join([self._table(), "", *ways, *faults])

    def _table(self) -> str:
        """The counts, a pipeline a line."""
        rows = [*sorted(self.counts.items()), ("all", self.total)]
        head = f"{'pipeline':12}" + "".join(f"{word:>22}" for word in KINDS.values())
        return "\n".join(
            [head, *(f"{name:12}" + "".join(f"{count[kind]:22}" for kind in KINDS) for name, count in rows)]
        )
