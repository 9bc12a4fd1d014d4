"""The main job, whatever interface it comes through: a model in; a folder with a better one and its report out."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from graphpress.backend import Placement, Tuning
from graphpress.driver.config import resolve
from graphpress.driver.delivery import deliver
from graphpress.driver.job import open_job
from graphpress.driver.options import Data, Options
from graphpress.driver.output import claimed
from graphpress.driver.source import AnyModel, ModelFile, opened
from graphpress.errors import refuse_unknown_keywords, resource_faults
from graphpress.manager.recipe import Passes
from graphpress.manager.verification import Verification
from graphpress.progress import Progress, Silent
from graphpress.report.records import Report, Status
from graphpress.runtime.custom_ops import custom_operators
from graphpress.runtime.optimization import any_optimization
from graphpress.scratch import reclaim
from graphpress.targets import Target

Hooks = Mapping[str, Callable[..., None]]


@dataclass(frozen=True)
class Result:
    """What a run left behind; ``print`` shows it in short, a notebook as a table.

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

    def __str__(self) -> str:
        from graphpress.report.brief import brief_text

        return brief_text(self.report, self.output)

    def _repr_html_(self) -> str:
        from graphpress.report.brief import brief_html

        return brief_html(self.report, self.output)


@refuse_unknown_keywords
def optimize(
    model: AnyModel,
    *,
    target: str | os.PathLike[str] | Target = "cpu",
    backend: str | None = None,
    data: Data | None = None,
    metric: str | Callable[..., Any] | None = None,
    max_drop: float | Literal["auto"] | None = "auto",
    recipe: str | os.PathLike[str] | None = None,
    passes: Passes | None = None,
    output: str | os.PathLike[str] | None = None,
    force: bool = False,
    allow_worse: bool = False,
    exclude: str | None = None,
    input_shape: Sequence[str] = (),
    input_range: Sequence[str] = (),
    threads: int | None = None,
    tuning: Tuning = "rules",
    weights: Placement = "beside",
    seed: int = 0,
    time_limit: float | None = None,
    eval_limit: int | None = None,
    verify: Verification = "final",
    strict: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
    allow_code: bool = False,
    custom_ops: Sequence[str | os.PathLike[str]] = (),
    keep_docs: bool = False,
    hooks: Hooks | None = None,
    progress: Progress | None = None,
) -> Result:
    """Compile a model for a target.

        result = graphpress.optimize("model.onnx", target="cpu", data="data.yaml", max_drop=0.01, output="out")

    Args:
        model: path of an ONNX file, an ``onnx.ModelProto`` or an ``onnx_ir.Model``, which stay as they are.
        target: name of the device, with options in braces; the path of a target file; or a target that was loaded.
        backend: backend to use in place of the target's own.
        data: a data file, an .npz, arrays, feeds or a ``CalibrationDataReader``; None for no data.
        metric: a metric's name, ``module:function`` or a callable; None for top1 with labels, else agreement.
        max_drop: the accuracy budget, in the unit of the metric (0.01 is one point); None waives it; ``auto`` for what
            is usual for the metric: 0.01, of ``closeness`` 0.05, which is an error of 5 %.
        recipe: a built-in recipe, a recipe file, or a manifest to replay; None for the target's own.
        passes: a pipeline in place of a recipe: as text, a pass, or a list of passes and texts.
        output: folder to write; None for ``MODEL-TARGET`` in the working directory.
        force: replace an earlier result; files that no run has written are never replaced.
        allow_worse: deliver what is slower or larger than the input model, too.
        exclude: nodes whose name matches this regular expression stay as they are in lossy passes.
        input_shape: ``NAME=1x3x224x224`` each, to fix open dimensions.
        input_range: ``NAME=1x3x224x224:8x3x224x224:16x3x224x224`` each: minimum, optimum and maximum shape of an input
            with open dimensions, for compilers that tune for them, or make room for the largest.
        threads: threads of the runtime; None for all cores.
        tuning: how kernels are chosen by a backend that generates them: by ``rules``, or by measuring, ``quick`` or
            ``deep``.
        weights: where those of a library lie: ``beside`` it in a file, or ``inside``.
        seed: of everything random.
        time_limit: seconds that the run may take: searches and training end in time, what was done before stays.
        eval_limit: at most this many samples measure the metric, evenly spaced.
        verify: when to compare the outputs of lossless passes with those before.
        strict: a pass that breaks, by a bug of its own, ends the run; without, the result is made without it.
        cache_dir: folder that keeps expensive results by content.
        allow_code: run the user's code that a manifest names, too.
        custom_ops: shared libraries with custom operators of ONNX Runtime, which are loaded.
        keep_docs: keep the model's doc strings, and what its exporter noted beside nodes and values.
        hooks: the user's functions: ``before_pass(pass, model)``, ``after_pass(pass, model, outcome)`` and
            ``on_transaction(passes, model, verdict)``.
        progress: where long work tells how far it is.

    Raises:
        GraphpressError: a subclass says what is wrong with the call, the model, the data, the backend or the machine.
    """
    options = Options(
        target=target,
        backend=backend,
        data=data,
        metric=metric,
        max_drop=max_drop,
        recipe=recipe,
        passes=passes,
        output=output,
        force=force,
        allow_worse=allow_worse,
        exclude=exclude,
        input_shape=input_shape,
        input_range=input_range,
        threads=threads,
        tuning=tuning,
        weights=weights,
        seed=seed,
        time_limit=time_limit,
        eval_limit=eval_limit,
        verify=verify,
        strict=strict,
        cache_dir=cache_dir,
        allow_code=allow_code,
        custom_ops=custom_ops,
        keep_docs=keep_docs,
    )
    with opened(model) as file:
        return run(file, options, progress or Silent(), hooks or {})


def run(file: ModelFile, options: Options, progress: Progress, hooks: Hooks | None = None) -> Result:
    """Do the whole job; ``optimize`` with the options as one object.

    Raises:
        GraphpressError: as ``optimize``.
    """
    began = time.perf_counter()
    with resource_faults(), custom_operators(options.custom_ops), any_optimization():
        reclaim()
        config = resolve(file, options, hooks or {})
        with claimed(config.output, config.options.force) as claim:
            job = open_job(file, config, progress)
            with job.inputs.watch.told(), config.cache.told():
                outcome = job.manager().run(job.inputs.model, config.recipe)
                report, files = deliver(job, outcome, began, claim)
    return Result(report, config.output, files)
