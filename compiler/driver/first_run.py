"""Whether the input model can be run here at all: its memory, asked before it is loaded; its time, on one sample; and,
without data, on inputs of which sizes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphpress.analysis.memory import least_activation_bytes, least_bytes
from graphpress.data import Feed, Samples, Shapes
from graphpress.data.free_sizes import candidate_shapes, check_given
from graphpress.data.synthetic import SyntheticSamples
from graphpress.driver.source import ModelFile
from graphpress.errors import DataError, ModelError
from graphpress.ir import Dims, Model
from graphpress.memory import available_memory, in_gigabytes
from graphpress.progress import doing
from graphpress.runtime import InputSpec, Session

MOST_SECONDS = 300.0
"""How long the model may take for one sample, where the user sets no time limit for the whole run."""
FEWEST_SECONDS = 20.0
"""How long it may take even where that limit is shorter."""
SEARCH_SECONDS = 60.0
"""After so long, no further sizes of open dimensions are tried."""
MADE_UP_FEEDS = 2


def check_memory(file: ModelFile, model: Model, shapes: Mapping[str, Dims]) -> None:
    """Whether runs that are compared fit into this machine, whatever the sizes of open axes.

    While one runs, the next feed and the results of two others are held.

    Args:
        file: where the model comes from.
        model: the same, its shapes inferred.
        shapes: static shapes by value name, where no input has an open axis; else none.

    Raises:
        ModelError: it does not.
    """
    held = [*model.graph.inputs, *model.graph.outputs, *model.graph.outputs]
    wanted = least_activation_bytes(model, shapes) + sum(least_bytes(value, shapes) for value in held)
    available = available_memory()
    if available is not None and wanted > available:
        raise ModelError(
            f"running it takes at least {in_gigabytes(wanted)} of memory for what it computes, and "
            f"{in_gigabytes(available)} are available",
            where=str(file.path),
            fix="fix open axes to smaller sizes (--input-shape), or use a machine with more memory",
        )


def check_answers(session: Session, feed: Feed, time_limit: float | None) -> Mapping[str, Any] | None:
    """Whether the model comes to an end in time: every later run would wait for it just so.

    That it fails on the feed is told where its answer is needed.

    Args:
        session: the input model.
        feed: one sample.
        time_limit: seconds that the user grants the whole run.

    Returns:
        Its answer; None where it fails.

    Raises:
        ModelError: it does not.
    """
    seconds = MOST_SECONDS if time_limit is None else max(FEWEST_SECONDS, time_limit)
    try:
        with doing("running the model for the first time"):
            return session.run(feed, seconds=seconds)
    except DataError:
        return None
    except ModelError as error:
        fix = f"{error.fix}; if it only is slow, give it more time: --time-limit with more than {seconds:g} s"
        raise ModelError(error.what, where=error.where, fix=fix) from error


def made_up_samples(
    session: Session,
    inputs: Sequence[InputSpec],
    given: Mapping[str, tuple[int, ...]],
    *,
    count: int = MADE_UP_FEEDS,
    seed: int = 0,
    time_limit: float | None = None,
) -> Samples:
    """Inputs of the likeliest sizes on which the model runs, and on which no output of it is empty.

    Args:
        session: the input model.
        inputs: what it wants to be fed.
        given: shapes that the user fixed.
        count: number of feeds.
        seed: of their values.
        time_limit: seconds that the user grants the whole run.

    Returns:
        The samples, with a note on which sizes were chosen; where it runs on none, with a note on that.

    Raises:
        ModelError: it gives no answer in time.
        UsageError: the given shapes contradict the model.
    """
    check_given(inputs, given)
    started, running, tried = time.monotonic(), None, list[Shapes]()
    for shapes in candidate_shapes(inputs, given):
        tried.append(shapes)
        answer = check_answers(session, next(iter(SyntheticSamples(inputs, shapes, [(seed, 0)]))), time_limit)
        is_whole = answer is not None and all(np.size(array) for array in answer.values())
        if is_whole or (answer is not None and running is None):
            running = shapes
        if is_whole or time.monotonic() - started > SEARCH_SECONDS:
            break
    note = _failure(inputs, len(tried)) if running is None else _choice(inputs, running)
    seeds = [(seed, at) for at in range(count)]
    return SyntheticSamples(inputs, running or tried[0], seeds, (note,) if note else ())


def _choice(inputs: Sequence[InputSpec], shapes: Shapes) -> str:
    """Which sizes stand for open dimensions beside the batch."""
    chosen = [f"{spec.name} {'x'.join(map(str, shapes[spec.name]))}" for spec in inputs if _is_open(spec)]
    if not chosen:
        return ""
    return f"no data: sizes were chosen for open dimensions, {', '.join(chosen)} (--input-shape NAME=SIZES sets others)"


def _failure(inputs: Sequence[InputSpec], tried: int) -> str:
    sizes = f"{tried} combinations of sizes" if tried > 1 else "one combination of sizes"
    example = next((spec.name for spec in inputs if _is_open(spec)), inputs[0].name if inputs else "NAME")
    return (
        f"the model runs on no made-up inputs ({sizes} tried): no numbers were compared, and no latency was measured; "
        f"give inputs with --data, or sizes with --input-shape {example}=SIZES"
    )


def _is_open(spec: InputSpec) -> bool:
    return spec.dims is None or any(not isinstance(dim, int) for dim in spec.dims[1:])
