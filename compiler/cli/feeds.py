"""Inputs for trying models out: the user's data, or made-up values where there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphpress.errors import DataError

if TYPE_CHECKING:
    from graphpress.data import Samples
    from graphpress.runtime import Session

MADE_UP_FEEDS = 4


def samples_for(session: Session, data: str | None, limit: int | None = None) -> Samples:
    """The samples to evaluate on from the data, or a few made-up ones on which the model runs when ``data`` is None.

    Raises:
        DataError: the data does not go with the model.
    """
    from graphpress.data import load_dataset
    from graphpress.driver.first_run import made_up_samples

    if data is None:
        return made_up_samples(session, session.inputs, {}, count=MADE_UP_FEEDS)
    samples = load_dataset(data, session.inputs, limit=limit).evaluation
    if samples is None:
        raise DataError("has no samples to evaluate on", where=data, fix="add an evaluation part")
    return samples
