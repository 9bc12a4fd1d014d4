"""How long each node takes: ONNX Runtime's own profile of a few calls, outside of everything else that is timed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
import onnx

from graphpress.backends.onnxruntime.running import SUFFIX, kernel_behind, readers_of
from graphpress.ir.files import read_message
from graphpress.runtime import Session
from graphpress.runtime.float_layers import LAYERS
from graphpress.scratch import scratch_folder

CALLS: Final = 5
"""Calls that are looked at; a first one, which allocates, is not."""
MOST_NODES: Final = 4000
"""Beyond, another load of the model takes longer than the table is worth."""
_CALL, _KERNEL = "model_run", "_kernel_time"


def node_seconds(model: Path, feed: Mapping[str, np.ndarray], threads: int) -> dict[str, float]:
    """The median time of one call of each node that runs, by its name in the model file; of a loop's body, all turns.

    A layer that is part of another kernel has the time of that kernel.

    Args:
        model: the model file.
        feed: what it is called with.
        threads: worker threads inside an operator.

    Returns:
        Seconds by name; none of a graph too large for a table, or where the profile could not be written.

    Raises:
        ModelError, DataError: ONNX Runtime cannot run it.
    """
    graph = read_message(model).graph
    if len(graph.node) > MOST_NODES:
        return {}
    with scratch_folder() as scratch:
        session = Session(model, threads=threads, profile=scratch / "profile")
        for _ in range(1 + CALLS):
            session.run(feed)
        text = session.end_profile().read_text("utf-8")
    try:
        events = json.loads(text)
    except ValueError:  # ONNX Runtime does not tell that there was no room for all of it
        return {}
    return _with_fused_layers(_medians(events), graph)


def _with_fused_layers(seconds: Mapping[str, float], graph: onnx.GraphProto) -> dict[str, float]:
    """ONNX Runtime calls a fused kernel after one of its nodes, or after its result."""
    readers, kernels = readers_of(graph), {name: name for name in seconds}
    times = dict(seconds)
    for node in graph.node:
        if node.op_type in LAYERS and node.name not in times:
            kernel = kernel_behind(node, kernels, readers)
            times |= {} if kernel is None else {node.name: seconds[kernel]}
    return times


def _medians(events: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """By node, over the calls behind the first: the event of a call comes behind those of its nodes."""
    calls: list[Counter[str]] = [Counter()]
    for event in events:
        if event["name"] == _CALL:
            calls.append(Counter())
        elif event["name"].endswith(_KERNEL):
            calls[-1][SUFFIX.sub("", event["name"].removesuffix(_KERNEL))] += event["dur"]
    looked_at = calls[1:-1]
    return {node: 1e-6 * median(call[node] for call in looked_at) for node in looked_at[0]}
