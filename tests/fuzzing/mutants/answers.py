"""What a model file says to some feeds: run as a user runs it, by a plain session, in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mutants.process import Ended, answer_of

Feed = Mapping[str, np.ndarray]
Declared = tuple[str, str, list[Any]]
"""Name, type and shape of an input or output."""

SECONDS = 60.0
_NUDGE = 2.0**-18


@dataclass(frozen=True)
class Answers:
    """What a model says.

    Args:
        inputs: as it declares them.
        outputs: as it declares them.
        computed: the outputs by name for each feed, or why there are none.
    """

    inputs: list[Declared]
    outputs: list[Declared]
    computed: list[dict[str, Any] | str]


def ask(model: Path, feeds: Sequence[Feed], folder: Path, *, optimized: bool = True) -> Answers | Ended:
    """Load and run a model below this folder; how the process ended where that gives no answer."""
    folder.mkdir()
    ended, answers = answer_of(partial(_answers, model, feeds, optimized), folder, seconds=SECONDS)
    return ended if answers is None else answers


def nudged(feed: Feed) -> dict[str, np.ndarray]:
    """Nearly the same feed: a model that is sound hardly notices."""
    return {
        name: (array * array.dtype.type(1 + _NUDGE)).astype(array.dtype) if array.dtype.kind == "f" else array
        for name, array in feed.items()
    }


def _answers(model: Path, feeds: Sequence[Feed], optimized: bool) -> Answers:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    inputs, outputs = (
        [(item.name, item.type, item.shape) for item in items]
        for items in (session.get_inputs(), session.get_outputs())
    )
    return Answers(inputs, outputs, [_computed(session, feed) for feed in feeds])


def _computed(session: Any, feed: Feed) -> dict[str, Any] | str:
    names = [item.name for item in session.get_outputs()]
    wanted = {item.name for item in session.get_inputs()}
    try:
        arrays = session.run(names, {name: array for name, array in feed.items() if name in wanted})
    except Exception as error:  # onnxruntime's exceptions share no base class of their own
        return str(error)
    return dict(zip(names, arrays, strict=True))
