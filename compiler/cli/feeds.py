"""Inputs for trying models out: the user's data, or made-up values where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from graphpress.errors import DataError

if TYPE_CHECKING:
    from graphpress.data import Samples
    from graphpress.runtime import InputSpec

MADE_UP_FEEDS = 4


def samples_for(inputs: Sequence[InputSpec], data: str | None, limit: int | None = None) -> Samples:
    """The samples to evaluate on from the data, or a few made-up ones when ``data`` is None.

    Raises:
        DataError: the data does not go with the model.
    """
    from graphpress.data import load_dataset, synthetic_samples

    if data is None:
        return synthetic_samples(inputs, MADE_UP_FEEDS)
    samples = load_dataset(data, inputs, limit=limit).evaluation
    if samples is None:
        raise DataError("has no samples to evaluate on", where=data, fix="add an evaluation part")
    return samples
