"""What to do about an accuracy budget that was missed, computed from the run itself.

The limit that would have been met; the layers that cost most, found by giving one after another its floats back; the
recovery passes that were not tried; half of what a pruning asked for; the other arithmetic that the target has.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from graphpress.driver.job import Job
from graphpress.errors import GraphpressError
from graphpress.evaluation import DamageMeasure
from graphpress.ir import Model, Node, clone, label
from graphpress.ir.encoding import FLOAT, compute_request, override_use, read_encoding, request_compute
from graphpress.manager.recipe_file import recipe_names
from graphpress.manager.records import PassRecord, points
from graphpress.manager.run import Run
from graphpress.progress import doing

STEP = 0.001
"""Limits are named in tenths of a point."""
SAMPLES = 32
SECONDS = 15.0
"""Longest search for the layers that cost most."""
MOST_LAYERS = 3
LEAST_GAIN = 0.1
"""Share of the damage that giving one layer its floats back must take away for it to be worth a word."""
RECOVERY = (("correct_bias",), ("reconstruct", "repair"), ("distill",))
"""From the weakest to the strongest; passes of one strength side by side."""
CALIBRATION_METHODS = ("mse", "percentile", "minmax")


def advice(job: Job, run: Run, records: Sequence[PassRecord]) -> list[str]:
    """Steps, the most certain first; empty where no budget was missed.

    Args:
        job: the run.
        run: what came of it.
        records: of its passes.
    """
    if not run.missed:
        return []
    missed = [record for record in records if record.status == "rolled_back" and record.transaction is not None]
    return [*_limit(job, missed), *_layers(job, run), *_passes(job, missed), *_other_arithmetic(job)]


def _limit(job: Job, missed: Sequence[PassRecord]) -> Iterator[str]:
    baseline = job.gate_baseline
    figures = [record.metric for record in missed if record.metric is not None]
    if baseline is not None and figures and (drop := baseline.value - max(figures)) > 0:
        limit = math.ceil(drop / STEP - 1e-6) * STEP
        yield f"--max-drop {limit:.4g} would take it: it lost {points(drop)}"


def _layers(job: Job, run: Run) -> Iterator[str]:
    service, model = job.context.evaluation, run.rejected
    if service is None or model is None:
        return
    try:
        with doing("looking for the layers that cost most"):
            few = replace(service, samples=service.samples.spread(SAMPLES)).damage()
            names = costly_layers(model, few, min(SECONDS, job.config.deadline.left()))
    except GraphpressError:  # advice is not worth a run
        return
    if names:
        pattern = "|".join(f"^{re.escape(name)}$" for name in names)
        yield f"--exclude '{pattern}' leaves out what costs most"


def costly_layers(model: Model, measure: DamageMeasure, seconds: float) -> list[str]:
    """Names of layers that take most of the damage with them when they alone compute in float; the worst first.

    Args:
        model: annotated, not changed.
        measure: against the original.
        seconds: about how long to look.
    """
    end, whole = time.monotonic() + seconds, measure.damage(model)
    gains: dict[str, float] = {}
    for node in model.graph:
        if compute_request(node) is None or not node.name or time.monotonic() > end:
            continue
        gain = 1 - measure.damage(_in_float(model, node)) / whole if whole else 0.0
        if gain >= LEAST_GAIN:
            gains[node.name] = gain
    return sorted(gains, key=lambda name: -gains[name])[:MOST_LAYERS]


def _in_float(model: Model, node: Node) -> Model:
    copy = clone(model)
    twin = next(other for other in copy.graph if label(other) == label(node))
    request_compute(twin, None)
    for index in range(len(twin.inputs)):
        if read_encoding(twin, index) is not None:
            override_use(twin, index, FLOAT)
    return copy


def _passes(job: Job, missed: Sequence[PassRecord]) -> Iterator[str]:
    """Recovery that was not tried, and less of what was asked."""
    names = [pass_.name for pass_ in job.config.recipe.passes]
    for record in missed:
        if record.name == "quantize":
            method = record.options.get("calibration_method", CALIBRATION_METHODS[0])
            other = next(name for name in CALIBRATION_METHODS if name != method)
            yield f"quantize{{calibration_method={other}}} in place of {method}"
        for field in ("ratio", "macs_kept"):
            if isinstance(asked := record.options.get(field), float):
                less = asked / 2 if field == "ratio" else (1 + asked) / 2
                yield f"{record.name}{{{field}={less:g}}} asks for half of it"
    tried = max((place for place, kind in enumerate(RECOVERY) if not set(kind).isdisjoint(names)), default=-1)
    if missed and (stronger := RECOVERY[tried + 1 :]):
        yield f"{stronger[0][0]} behind {missed[0].name} wins accuracy back"


def _other_arithmetic(job: Job) -> Iterator[str]:
    """A recipe in another type that the target computes in."""
    for dtype in ("float16", "bfloat16"):
        if dtype in job.config.target.kernels and dtype in recipe_names() and job.config.options.recipe != dtype:
            yield f"--recipe {dtype}, in which this target computes, too"
            return
