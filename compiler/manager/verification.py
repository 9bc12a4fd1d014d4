"""The numeric check of lossless passes: same outputs on the same probe inputs, at a stated tolerance.

An annotated model is compared as it would be delivered, its encodings written out: a pass that loses one is found out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphpress.errors import GraphpressError
from graphpress.ir import Model, clone
from graphpress.ir.qdq import materialize_qdq
from graphpress.manager.contract import Feed
from graphpress.runtime import Session

TOLERANCE = {"float16": 2e-2, "float32": 1e-3, "float64": 1e-6}
"""Largest difference, as a fraction of the largest magnitude of that output (float32: rounding of reordered sums)."""

QUANTIZED_TOLERANCE = 2e-2
"""The same where values pass through quantizers: a rounding before one can move a value by a whole level."""


@dataclass(frozen=True)
class Probe:
    """Inputs and what the model says to them before a run of passes.

    Args:
        feeds: probe inputs.
        expected: the outputs for each feed.
        blind: why nothing can be compared (the model does not run on them, or answers differently each time).
        least: the least tolerance, whatever the type of the output.
    """

    feeds: Sequence[Feed]
    expected: Sequence[Mapping[str, Any]] = ()
    blind: str = ""
    least: float = 0.0

    @classmethod
    def of(cls, model: Model, feeds: Sequence[Feed]) -> Probe:
        """Run the model on the feeds and remember its answers."""
        try:
            session, least = _materialized(model)
            expected = [session.run(feed) for feed in feeds]
            again = session.run(feeds[0])
        except GraphpressError as error:
            return cls(feeds, blind=f"the model does not run on the probe inputs: {error.what}")
        if first_difference(expected[0], again):
            return cls(feeds, blind="the model answers differently each time")
        return cls(feeds, expected, least=least)

    def difference(self, model: Model) -> str | None:
        """What the changed model gets wrong, in words, or None."""
        if self.blind:
            return None
        try:
            session, _ = _materialized(model)
            for feed, expected in zip(self.feeds, self.expected, strict=True):
                if found := first_difference(expected, session.run(feed), self.least):
                    return found
        except GraphpressError as error:
            return str(error)
        return None


def _materialized(model: Model) -> tuple[Session, float]:
    """A session of the model with its encodings as Q/DQ nodes, and the least tolerance that this asks for."""
    materialized = clone(model)
    encoded = materialize_qdq(materialized)
    return Session(materialized, optimization="basic"), QUANTIZED_TOLERANCE if encoded else 0.0


def first_difference(expected: Mapping[str, Any], actual: Mapping[str, Any], least: float = 0.0) -> str | None:
    """The first output that differs beyond the tolerance (and ``least``), in words, or None."""
    if list(expected) != list(actual):
        return f"outputs are {list(actual)}, not {list(expected)}"
    for name, one in expected.items():
        if found := _difference(one, actual[name], least):
            return f"output {name!r} {found}"
    return None


def _difference(one: Any, other: Any, least: float) -> str | None:
    if isinstance(one, (list, tuple)) or isinstance(other, (list, tuple)):
        if not isinstance(one, (list, tuple)) or not isinstance(other, (list, tuple)) or len(one) != len(other):
            return "is another sequence"
        return next((found for pair in zip(one, other, strict=True) if (found := _difference(*pair, least))), None)
    if not isinstance(one, np.ndarray) or not isinstance(other, np.ndarray):
        return None if str(one) == str(other) else "differs"
    if one.shape != other.shape or one.dtype != other.dtype:
        return f"is {other.dtype}{list(other.shape)}, not {one.dtype}{list(one.shape)}"
    if one.dtype.kind not in "fc":
        return None if np.array_equal(one, other) else f"differs in {int(np.sum(one != other))} of {one.size} elements"
    if not np.array_equal(np.isfinite(one), np.isfinite(other)):
        return "is finite in other places"
    finite = np.isfinite(one)
    if not np.array_equal(one[~finite], other[~finite], equal_nan=True):
        return "is infinite with another sign, or undefined"
    if not finite.any():
        return None
    a, b = one[finite].astype(np.complex128), other[finite].astype(np.complex128)
    worst, scale = float(np.abs(a - b).max()), float(np.abs(a).max())
    allowed = max(TOLERANCE.get(one.dtype.name, 1e-3), least) * max(scale, 1e-6)
    return None if worst <= allowed else f"differs by {worst:.3g} where its largest value is {scale:.3g}"
