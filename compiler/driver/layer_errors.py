"""The error of each layer of the result, for the report: measured once, on few samples, where there is time for it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from graphpress.driver.choice import Candidate, Choice
from graphpress.driver.first_answers import first_samples
from graphpress.driver.job import Job
from graphpress.errors import DataError, ModelError
from graphpress.evaluation.layer_error import layer_sqnr
from graphpress.manager.run import Run
from graphpress.runtime.session import is_large

MACS: Final = 2 * 10**9
"""Multiply-accumulates of samples beyond the first."""
LEAST_LEFT: Final = 0.1
"""Share of the time limit that is kept for what else delivery does."""


class LayerErrors(NamedTuple):
    """How far the results of layers are from those of the float model.

    Args:
        sqnr: in dB, by name of the layer.
        note: why there is none; empty where there is, and where nothing could differ.
    """

    sqnr: Mapping[str, float]
    note: str = ""


def layer_errors(job: Job, run: Run, choice: Choice, layers: Collection[str], macs: int) -> LayerErrors:
    """The error of these layers against the last state that only lossless passes made.

    Args:
        job: the run.
        run: its states.
        choice: the result.
        layers: names of nodes.
        macs: of one call.
    """
    candidate = choice.candidate
    if candidate is None or not candidate.checkpoint.transactions:
        return LayerErrors({})
    why = _obstacle(job)
    try:
        sqnr = {} if why else _measured(job, run, candidate, layers, macs)
    except (DataError, ModelError) as error:
        sqnr, why = {}, error.what
    return LayerErrors(sqnr, why and f"the error of each layer was not measured: {why}")


def _obstacle(job: Job) -> str:
    """Why nothing is measured; empty where nothing stands against it."""
    deadline = job.config.deadline
    if not job.inputs.runs:
        return "the input model does not run here"
    if is_large(job.inputs.original_bytes):
        return "the model is large, and would have to be loaded twice more"
    if deadline.seconds is not None and deadline.left() < LEAST_LEFT * deadline.seconds:
        return "there was no time left"
    return ""


def _measured(job: Job, run: Run, candidate: Candidate, layers: Collection[str], macs: int) -> Mapping[str, float]:
    """The SQNR by name, on as many of the probe samples as cost little.

    Raises:
        ModelError, DataError: one of the models does not run with inner values for outputs.
    """
    reference = [state.model for state in run.checkpoints if not state.transactions][-1]
    feed = first_samples(job.inputs.probes[0], job.inputs.specs, 1 + MACS // max(macs, 1))
    prepared, threads = candidate.prepared, job.config.threads
    return layer_sqnr(reference, prepared.annotated, prepared.simulation, layers, feed, threads=threads)
