"""The main job, whatever interface it comes through: a model file in; a folder with a better one and its report out."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphpress.driver.delivery import deliver
from graphpress.driver.job import open_job
from graphpress.driver.options import Options
from graphpress.errors import UsageError, did_you_mean
from graphpress.progress import Progress, Silent
from graphpress.report.records import Report, Status


@dataclass(frozen=True)
class Result:
    """What a run left behind.

    Args:
        report: what ``report.json`` holds.
        output: the folder.
        files: everything in it.
    """

    report: Report
    output: Path
    files: tuple[Path, ...]

    @property
    def status(self) -> Status:
        """The outcome: ``delivered``, ``kept_original`` or ``budget_not_met``."""
        return self.report.status


def optimize(
    model: str | os.PathLike[str],
    *,
    hooks: Mapping[str, Callable[..., None]] | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Result:
    """Compile a model for a target.

        result = graphpress.optimize("model.onnx", target="cpu", data="data.yaml", max_drop=0.01, output="out")

    The keywords are the fields of ``Options``: target, backend, data, metric, max_drop, recipe, passes, output, force,
    allow_worse, exclude, input_shape, threads, seed, time_limit, eval_limit, verify, cache_dir.

    Args:
        model: path of the ONNX file.
        hooks: the user's functions: ``before_pass(pass, model)``, ``after_pass(pass, model, outcome)`` and
            ``on_transaction(passes, model, verdict)``.
        progress: where long work tells how far it is.
        **options: as above; ``help(graphpress.Options)`` says what each means.

    Raises:
        GraphpressError: a subclass says what is wrong with the call, the model, the data or the backend.
    """
    unknown = set(options) - set(Options.__dataclass_fields__)
    if unknown:
        word = min(unknown)
        raise UsageError(
            f"unknown option {word!r}", where="optimize", fix=did_you_mean(word, Options.__dataclass_fields__)
        )
    return run(Path(model), Options(**options), progress or Silent(), hooks or {})


def run(
    path: Path, options: Options, progress: Progress, hooks: Mapping[str, Callable[..., None]] | None = None
) -> Result:
    """Do the whole job; ``optimize`` with the options as one object.

    Raises:
        GraphpressError: as ``optimize``.
    """
    began = time.perf_counter()
    job = open_job(path, options, progress, hooks or {})
    outcome = job.manager().run(job.model, job.recipe)
    report, files = deliver(job, outcome, began)
    return Result(report, job.output, files)
