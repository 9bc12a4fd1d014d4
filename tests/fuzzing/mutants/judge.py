"""Whether a delivered model does what it should, by running it and the mutant's own file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx

from graphpress.manager.verification import QUANTIZED_TOLERANCE, first_difference
from mutants.answers import Answers, Declared, Feed, ask, nudged
from mutants.budget import Outputs, broken_promise, overdrawn
from mutants.ending import last_line
from mutants.mutant import MODEL_FILE
from mutants.pipelines import Pipeline
from mutants.process import Ended

Kind = Literal["error", "right", "finding"]


@dataclass(frozen=True)
class Verdict:
    """How a trial ended.

    Args:
        kind: a clean error; a delivered model that is right; anything else.
        why: the error, how the model was checked, or what is wrong.
    """

    kind: Kind
    why: str


@dataclass(frozen=True)
class Judge:
    """Compares what was delivered with the mutant's own file.

    Args:
        model: the mutant's file.
        output: the output folder.
        feeds: what both are run on; the first is the data that the pipeline was given.
        folder: an empty one to work in.
        pipeline: what the output is of.
    """

    model: Path
    output: Path
    feeds: Sequence[Feed]
    folder: Path
    pipeline: Pipeline

    def verdict(self) -> Verdict:
        """Names, types and shapes in any case; numbers of what is lossless; else the budget."""
        report = json.loads((self.output / "report.json").read_text(encoding="utf-8"))
        if fault := broken_promise(report):
            return Verdict("finding", fault)
        original = ask(self.model, self.feeds, self.folder / "original")
        if isinstance(original, Ended):
            return Verdict("finding", f"was accepted, and cannot be loaded: {last_line(original.said)}")
        delivered = ask(
            self.output / MODEL_FILE, self.feeds, self.folder / "delivered", optimized=not self.pipeline.elsewhere
        )
        if isinstance(delivered, Ended):
            return Verdict("finding", f"the delivered model cannot be loaded: {last_line(delivered.said)}")
        if difference := interface_difference(original, delivered):
            return Verdict("finding", difference)
        return self._compare(original, delivered, report)

    def _compare(self, original: Answers, delivered: Answers, report: Mapping[str, Any]) -> Verdict:
        lossless = self.pipeline.lossless or report["status"] == "kept_original"
        compared = unstable = 0
        for index, (expected, actual) in enumerate(zip(original.computed, delivered.computed, strict=True)):
            if isinstance(expected, str):
                continue
            if isinstance(actual, str):
                return Verdict("finding", f"the delivered model fails where the mutant runs: {actual[:300]}")
            difference = form_difference(expected, actual)
            if not difference and lossless:
                difference = self._difference(expected, actual)
            if not difference and not index:
                difference = overdrawn(report, self.feeds[0], expected, actual)
            if difference and self._is_stable(index, expected):
                return Verdict("finding", difference)
            compared, unstable = compared + 1, unstable + bool(difference)
        if unstable:
            return Verdict("right", "the mutant answers differently to nearly the same input, or each time")
        if not compared:
            return Verdict("right", "the mutant itself fails on the inputs")
        return Verdict("right", "the same numbers" if lossless else "the same names, types and shapes, in the budget")

    def _difference(self, expected: Outputs, actual: Outputs) -> str | None:
        """What differs beyond the tolerance that the compiler states."""
        return first_difference(expected, actual, self._least_tolerance)

    @cached_property
    def _least_tolerance(self) -> float:
        """Roundings of a quantized model make a step of a tiny difference."""
        nodes = onnx.load(self.model, load_external_data=False).graph.node
        return QUANTIZED_TOLERANCE if any("Quantize" in node.op_type for node in nodes) else 0.0

    def _is_stable(self, index: int, expected: Outputs) -> bool:
        """Whether the mutant gives the same answer to nearly the same input, without optimization."""
        if isinstance(self._doubts, Ended):
            return False
        again = self._doubts.computed[index]
        return not isinstance(again, str) and not self._difference(expected, again)

    @cached_property
    def _doubts(self) -> Answers | Ended:
        return ask(self.model, [nudged(feed) for feed in self.feeds], self.folder / "nudged", optimized=False)


def interface_difference(original: Answers, delivered: Answers) -> str | None:
    """What a user of the model would notice without running it."""
    for word, declared, now in (
        ("input", original.inputs, delivered.inputs),
        ("output", original.outputs, delivered.outputs),
    ):
        if [item[:2] for item in declared] != [item[:2] for item in now]:
            return f"{word}s are {now}, not {declared}"
        for before, after in zip(declared, now, strict=True):
            if _contradict(before[2], after[2]) and not _is_wrong(before, original):
                return f"{word} {before[0]!r} is declared {after[2]}, was {before[2]}"
    return None


def _is_wrong(declared: Declared, original: Answers) -> bool:
    """What the mutant itself computes is not as it declares; a delivered model may then say what is."""
    computed = [answer.get(declared[0]) for answer in original.computed if not isinstance(answer, str)]
    return any(isinstance(array, np.ndarray) and _contradict(declared[2], list(array.shape)) for array in computed)


def form_difference(expected: Outputs, actual: Outputs) -> str | None:
    """Another type or shape of what was computed."""
    for name, wanted in expected.items():
        if (before := _form(wanted)) != (after := _form(actual[name])):
            return f"output {name!r} is {after}, not {before}"
    return None


def _form(value: Any) -> str:
    return f"{value.dtype}{list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__


def _contradict(first: list[Any], second: list[Any]) -> bool:
    """Two shapes that no array has both; one that says nothing contradicts none."""
    if not first or not second:
        return False
    sizes = zip(first, second, strict=False)
    return len(first) != len(second) or any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in sizes)
