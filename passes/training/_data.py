"""The calibration data as training reads it: sample by sample where samples can be separated."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from graphpress.analysis.leading_axes import fed_inputs
from graphpress.data import Feed
from graphpress.data.inputs import has_common_batch
from graphpress.errors import DataError
from graphpress.ir import Model, is_constant
from graphpress.manager.contract import Context


def input_names(model: Model) -> list[str]:
    """Names of the inputs that are fed."""
    return [value.name or "" for value in model.graph.inputs if not is_constant(value)]


def first_feed(context: Context) -> Feed:
    """The first samples of the data.

    Raises:
        DataError: there are none.
    """
    feed = next(iter(context.calibration or ()), None)
    if feed is None:
        raise DataError("holds no samples", where="calibration data", fix="give at least one feed")
    return feed


def feeds_of(calibration: Any, model: Model) -> Iterator[tuple[Feed, np.ndarray | None, int]]:
    """Feeds with labels and the number of their samples; 0 where a feed is a sample as a whole."""
    common = has_common_batch(fed_inputs(model))
    if hasattr(calibration, "counted_batches"):
        batches = ((batch.feed, batch.labels, batch.count) for batch in calibration.counted_batches())
    else:
        batches = ((feed, None, _leading(feed)) for feed in calibration)
    for feed, labels, count in batches:
        sizes = {array.shape[0] if array.ndim else None for array in feed.values()}
        stacked = common and len(sizes) == 1 and None not in sizes
        yield feed, labels, count if stacked else 0


def _leading(feed: Feed) -> int:
    return next((array.shape[0] for array in feed.values() if array.ndim), 1)
