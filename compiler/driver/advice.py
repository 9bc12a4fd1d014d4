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

from graphpress.driver.choice import Choice
from graphpress.driver.job import Job
from graphpress.errors import GraphpressError
from graphpress.evaluation import DamageMeasure
from graphpress.ir import Model, Node, clone, is_constant, label
from graphpress.ir.encoding import FLOAT, compute_request, override_use, read_encoding, request_compute
from graphpress.manager.alternative import are_accepted
from graphpress.manager.recipe import from_text, named_recipe
from graphpress.manager.recipe_file import recipe_names
from graphpress.manager.records import PassRecord, points
from graphpress.manager.run import Run
from graphpress.progress import doing

STEP = 0.001
"""Limits are named in tenths of a point."""
SAMPLES = 32
SECONDS = 15.0
"""Longest search for the layers that cost most."""
SHARE_OF_TIME = 0.5
"""Of the time left to the run."""
MOST_LAYERS = 3
LEAST_GAIN = 0.1
"""Share of the damage that giving one layer its floats back must take away for it to be worth a word."""
RECOVERY = (("correct_bias",), ("reconstruct", "repair"), ("distill",))
"""From the weakest to the strongest; passes of one strength side by side."""
WEIGHTS_ONLY = "quantize_weights{dtype=int8}"
CALIBRATION_METHODS = ("mse", "percentile", "minmax")


def advice(job: Job, run: Run, choice: Choice, records: Sequence[PassRecord]) -> list[str]:
    """Steps, the most certain first; empty where no budget was missed.

    Args:
        job: the run.
        run: what came of it.
        choice: what of it is delivered, and what was given up for its final figure.
        records: of its passes.
    """
    given_up = [state.model for state in choice.dropped if state.cause == "budget"]
    if not run.missed and not given_up:
        return []
    rejected = run.rejected if run.rejected is not None else given_up[0]
    missed = [record for record in records if record.status == "rolled_back" and record.transaction is not None]
    return [*_limit(job, missed), *_layers(job, rejected), *_passes(job, missed), *_other_arithmetic(job, missed)]


def _limit(job: Job, missed: Sequence[PassRecord]) -> Iterator[str]:
    baseline = job.gate_baseline
    figures = [record.metric for record in missed if record.metric is not None]
    if baseline is not None and figures and (drop := baseline.value - max(figures)) > 0:
        limit = math.ceil(drop / STEP - 1e-6) * STEP
        yield f"--max-drop {limit:.4g} would take it: it lost {points(drop)}"


def _layers(job: Job, model: Model | None) -> Iterator[str]:
    service = job.context.evaluation
    if service is None or model is None:
        return
    try:
        with doing("looking for the layers that cost most"):
            few = replace(service, samples=service.samples.spread(SAMPLES)).damage()
            shares = costly_layers(model, few, min(SECONDS, SHARE_OF_TIME * job.config.deadline.left()))
    except GraphpressError:  # advice is not worth a run
        return
    if shares:
        pattern = "|".join(f"^{re.escape(name)}$" for name in shares)
        told = ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares.items())
        yield f"--exclude '{pattern}' leaves out what costs most: {told} of the damage to the outputs"


def costly_layers(model: Model, measure: DamageMeasure, seconds: float) -> dict[str, float]:
    """Layers that take most of the damage with them when they alone compute in float, and its share, by name; the worst
    first.

    Args:
        model: annotated, not changed.
        measure: against the original.
        seconds: about how long to look.
    """
    end, whole = time.monotonic() + seconds, measure.damage(model)
    gains: dict[str, float] = {}
    for node in model.graph:
        if not _is_reduced(node) or not node.name or time.monotonic() > end:
            continue
        gain = 1 - measure.damage(_in_float(model, node)) / whole if whole else 0.0
        if gain >= LEAST_GAIN:
            gains[node.name] = gain
    return dict(sorted(gains.items(), key=lambda item: -item[1])[:MOST_LAYERS])


def _is_reduced(node: Node) -> bool:
    """Whether it was asked to compute in less than its floats, or reads weights that have fewer bits."""
    reads = (read_encoding(node, index) for index, value in enumerate(node.inputs) if is_constant(value))
    return compute_request(node) is not None or any(encoding is not None for encoding in reads)


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


def _other_arithmetic(job: Job, missed: Sequence[PassRecord]) -> Iterator[str]:
    """What rounds less, and is taken by this target for this model."""
    model, context = job.inputs.model, job.context
    if any(record.name == "quantize" for record in missed) and are_accepted(from_text(WEIGHTS_ONLY), model, context):
        yield f"--passes 'cleanup,fuse,{WEIGHTS_ONLY}' rounds weights only"
    for dtype in ("float16", "bfloat16"):
        is_other = dtype in recipe_names() and job.config.options.recipe != dtype
        if is_other and dtype in job.config.target.kernels and are_accepted(named_recipe(dtype), model, context):
            yield f"--recipe {dtype}, in which this target computes, too"
            return
