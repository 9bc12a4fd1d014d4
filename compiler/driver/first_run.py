"""Whether the input model can be run here at all: its memory, asked before it is loaded; its time, on one sample."""

from __future__ import annotations

from collections.abc import Mapping

from graphpress.analysis.memory import least_activation_bytes, least_bytes
from graphpress.data import Feed
from graphpress.driver.source import ModelFile
from graphpress.errors import DataError, ModelError
from graphpress.ir import Dims, Model, static_shape
from graphpress.memory import available_memory, in_gigabytes
from graphpress.progress import doing
from graphpress.runtime import Session

MOST_SECONDS = 300.0
"""How long the model may take for one sample, where the user sets no time limit for the whole run."""
FEWEST_SECONDS = 20.0
"""How long it may take even where that limit is shorter."""


def check_memory(file: ModelFile, model: Model, shapes: Mapping[str, Dims]) -> None:
    """Whether runs that are compared fit into this machine, whatever the sizes of open axes.

    While one runs, the next feed and the results of two others are held.

    Args:
        file: where the model comes from.
        model: the same, its shapes inferred.
        shapes: static shapes by value name, with some size or other for open axes of inputs.

    Raises:
        ModelError: it does not.
    """
    is_static = all(static_shape(value) is not None for value in model.graph.inputs)
    known = shapes if is_static else {}
    held = [*model.graph.inputs, *model.graph.outputs, *model.graph.outputs]
    wanted = least_activation_bytes(model, known) + sum(least_bytes(value, known) for value in held)
    available = available_memory()
    if available is not None and wanted > available:
        raise ModelError(
            f"running it takes at least {in_gigabytes(wanted)} of memory for what it computes, and "
            f"{in_gigabytes(available)} are available",
            where=str(file.path),
            fix="fix open axes to smaller sizes (--input-shape), or use a machine with more memory",
        )


def check_answers(session: Session, feed: Feed, time_limit: float | None) -> None:
    """Whether the model comes to an end in time: every later run would wait for it just so.

    That it fails on the feed is told where its answer is needed.

    Args:
        session: the input model.
        feed: one sample.
        time_limit: seconds that the user grants the whole run.

    Raises:
        ModelError: it does not.
    """
    seconds = MOST_SECONDS if time_limit is None else max(FEWEST_SECONDS, time_limit)
    try:
        with doing("running the model for the first time"):
            session.run(feed, seconds=seconds)
    except DataError:
        return
    except ModelError as error:
        fix = f"{error.fix}; if it only is slow, give it more time: --time-limit with more than {seconds:g} s"
        raise ModelError(error.what, where=error.where, fix=fix) from error
