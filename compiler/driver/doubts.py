"""What makes the figures of a report doubtful: data that does not go with the model, samples that were seen before."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from graphpress.data import Feed
from graphpress.data.overlap import shared_samples
from graphpress.driver.job import Job
from graphpress.errors import listed

IMAGE_RANK = 4
PIXELS = (128, 255)
"""The largest number of an image that nobody scaled lies between these."""


def doubts(job: Job) -> Iterator[str]:
    """A sentence each, for the warnings of the report."""
    if job.final_baseline is not None and job.final_baseline.warning:
        raw = raw_inputs(job.inputs.single)
        where = f" ({listed(raw)}: pixels as they stand in a file?)" if raw else ""
        yield f"{job.final_baseline.warning}{where}"
    data = job.inputs.data
    if data.calibration is None or data.evaluation is None or data.borrowed:
        return
    if shared := shared_samples(data.calibration, data.evaluation):
        yield (
            f"{shared} of {data.evaluation.count} evaluation samples are calibration samples, too: "
            "the figure is better than on samples that no pass has seen; keep them apart"
        )


def raw_inputs(feed: Feed) -> list[str]:
    """Inputs for images that look as if they had not been scaled, with how far their numbers reach."""
    images = {name: array for name, array in feed.items() if array.ndim == IMAGE_RANK and array.dtype.kind == "f"}
    reach = {name: float(np.abs(array).max(initial=0)) for name, array in images.items()}
    return [f"{name} reaches {most:g}" for name, most in reach.items() if PIXELS[0] <= most <= PIXELS[1]]
