"""Whether the samples of an open batch are independent, which a library that computes one after another stands on.

Nobody can tell from shapes: a mean over the first axis has them, too. So ONNX Runtime computes two different samples
together and each alone, and the results have to be the same.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from graphpress.data import synthetic_samples
from graphpress.errors import GraphpressError, ModelError
from graphpress.ir import Model, dims_of
from graphpress.runtime import Session

TOLERANCE = 0.05
"""Of the norm of a result: kernels for two samples may round otherwise than those for one, and codes a step apart."""
FIX = "fix the number of samples (--input-shape), or use --backend onnxruntime"


def check_samples(model: Model, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Compare two samples together with each alone.

    Args:
        model: one that ONNX Runtime runs, its batch open.
        shapes: of all inputs, of one sample.

    Raises:
        ModelError: a result differs, or an input or output has no axis that counts samples.
    """
    for value in model.graph.inputs:
        if not (dims := dims_of(value)) or dims[0] is not None:
            raise ModelError("its first axis counts no samples, others' do", where=f"input {value.name}", fix=FIX)
    session = Session(model)
    first, second = synthetic_samples(session.inputs, 2, input_shapes=dict(shapes))
    together = {name: np.concatenate([first[name], second[name]]) for name in first}
    try:
        results = [session.run(feed) for feed in (first, second, together)]
    except GraphpressError as error:
        raise ModelError(f"two samples do not run: {error.what}", where="the first axis", fix=FIX) from error
    for name, both in results[2].items():
        _check_output(name, [np.asarray(result[name]) for result in results[:2]], np.asarray(both))


def _check_output(name: str, alone: list[np.ndarray], both: np.ndarray) -> None:
    where = f"output {name}"
    if not both.ndim or any(array.ndim != both.ndim for array in alone):
        raise ModelError("it has no axis that counts samples", where=where, fix=FIX)
    expected = np.concatenate(alone)
    if expected.shape != both.shape:
        raise ModelError("its first axis does not count samples", where=where, fix=FIX)
    numbers, wanted = both.astype(np.float64), expected.astype(np.float64)
    if not np.linalg.norm(numbers - wanted) <= TOLERANCE * np.linalg.norm(wanted) and not np.array_equal(
        numbers, wanted, equal_nan=True
    ):
        raise ModelError("one sample changes the result of another", where=where, fix=FIX)
