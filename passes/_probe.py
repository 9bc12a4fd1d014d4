"""One sample to measure with."""

from __future__ import annotations

import numpy as np

from graphpress.analysis.shapes import concrete_shapes
from graphpress.data.synthetic import random_array
from graphpress.ir import DataType, Model, dims_of
from graphpress.manager.contract import Context


def probe_feed(model: Model, context: Context) -> dict[str, np.ndarray]:
    """One sample to measure with: the first of the calibration data, else random."""
    for feed in context.calibration or ():
        return {name: array[:1] if _free_batch(model, name) else array for name, array in feed.items()}
    shapes, rng = concrete_shapes(model), np.random.default_rng(context.seed)
    return {
        value.name or "": random_array(shapes[value.name or ""], (value.dtype or DataType.FLOAT).numpy(), rng)
        for value in model.graph.inputs
    }


def _free_batch(model: Model, name: str) -> bool:
    """Whether the input has a first axis of any size."""
    dims = next((dims_of(value) for value in model.graph.inputs if value.name == name), None)
    return dims is not None and len(dims) > 0 and dims[0] is None
