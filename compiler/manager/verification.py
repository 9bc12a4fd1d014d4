"""The numeric check of lossless passes: same outputs on the same probe inputs, at a stated tolerance.

An annotated model is compared as it would be delivered, its encodings written out: a pass that loses one is found out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from graphpress.data import Feed
from graphpress.errors import DataError, ModelError
from graphpress.ir import DataType, Model, Node, clone, graphs, is_standard, values_of
from graphpress.ir.encoding.saving import holds_encodings
from graphpress.ir.qdq import is_plain, materialize_qdq
from graphpress.runtime import Infer, Session, stand_by

Verification = Literal["none", "final", "each"]
"""When to compare the outputs of lossless passes with those before: never, once a run of passes, after each pass."""

TOLERANCE = {"float16": 2e-2, "float32": 1e-3, "float64": 1e-6}
"""Largest difference, as a fraction of the largest magnitude of that output (float32: rounding of reordered sums)."""

_COARSE = frozenset(
    DataType[name] for name in ("FLOAT16", "BFLOAT16", "FLOAT8E4M3FN", "FLOAT8E5M2", "INT8", "UINT8", "INT4", "UINT4")
)
"""Types of values that tell of quantizers and of short floats."""

_DOES_NOT_RUN = "the model does not run on the probe inputs: "
SMALLEST, ROUNDING = 1e-6, 1e-3
"""Largest magnitudes below which the tolerance becomes no less: of any output, and of ``rounded_at_one``."""
BOUNDED = ("Erf", "HardSigmoid", "Sigmoid", "Softmax", "Tanh")
MOVERS = ("Flatten", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")
QUANTIZED_TOLERANCE = 2e-2
"""The same where values pass through quantizers: a rounding before one can move a value by a whole level."""


@dataclass(frozen=True)
class Probe:
    """Inputs and what the model says to them before a run of passes.

    Args:
        feeds: probe inputs.
        expected: the outputs for each feed; empty where the model does not run on them.
        blind: why nothing can be compared (the model does not run on them, or answers differently each time).
        least: the least tolerance, whatever the type of the output.
        rounded_at_one: outputs of ``rounded_at_one``.
        again: the model itself, where the answers are those of a session that rewrites more than the check does: what
            differs from them is compared once more on even terms.
    """

    feeds: Sequence[Feed]
    expected: Sequence[Mapping[str, Any]] = ()
    blind: str = ""
    least: float = 0.0
    again: Model | None = None
    rounded_at_one: frozenset[str] = frozenset()

    @classmethod
    def of(cls, model: Model, feeds: Sequence[Feed]) -> Probe:
        """Run the model on the feeds and remember its answers."""
        try:
            session, least = _materialized(model)
        except (DataError, ModelError) as error:
            return cls(feeds, blind=_DOES_NOT_RUN + error.what)
        return cls.by(session, feeds, least)

    @classmethod
    def by(cls, infer: Infer, feeds: Sequence[Feed], least: float = 0.0) -> Probe:
        """The same of a model that is loaded already."""
        try:
            expected = [infer(feed) for feed in feeds]
            again = infer(feeds[0])
            stand_by(infer)
        except (DataError, ModelError) as error:
            return cls(feeds, blind=_DOES_NOT_RUN + error.what)
        blind = "the model answers differently each time" if first_difference(expected[0], again) else ""
        return cls(feeds, expected, blind, least)

    def difference(self, model: Model) -> str | None:
        """What the changed model gets wrong, in words, or None.

        Raises:
            ModelError: it cannot even be loaded.
        """
        if self.blind:
            return None
        session, _ = _materialized(model)
        try:
            difference = self.difference_of(map(session, self.feeds))
        except DataError as error:
            return str(error)
        if difference is None or self.again is None:
            return difference
        return Probe.of(self.again, self.feeds).difference(model)

    def difference_of(self, answers: Iterable[Mapping[str, Any]]) -> str | None:
        """The same of answers to the feeds, in turn."""
        if self.blind:
            return None
        pairs = zip(self.expected, answers, strict=True)
        differences = (first_difference(*pair, self.least, self.rounded_at_one) for pair in pairs)
        return next(filter(None, differences), None)


def _materialized(model: Model) -> tuple[Session, float]:
    """A session of the model with its encodings as Q/DQ nodes, and the least tolerance that this asks for."""
    if is_plain(model):
        return Session(model, optimization="none", made_up=True), 0.0
    materialized = clone(model)
    encoded = materialize_qdq(materialized)
    return Session(materialized, optimization="none", made_up=True), QUANTIZED_TOLERANCE if encoded else 0.0


def least_tolerance(model: Model) -> float:
    """What the outputs of equal models may differ by at the least, whatever the type of an output: where values within
    pass through quantizers or are half-precision floats, runtimes round them here or there.
    """
    coarse = any(
        value.dtype in _COARSE for graph in graphs(model) for value in values_of(graph) if value.dtype is not None
    )
    return QUANTIZED_TOLERANCE if coarse or holds_encodings(model) else 0.0


def rounded_at_one(model: Model) -> frozenset[str]:
    """Outputs, by name, of functions whose results lie between -1 and 1: runtimes compute those to the last digits of
    1, whatever their size.
    """
    outputs = ((value.name or "", _behind_movers(value.producer())) for value in model.graph.outputs)
    return frozenset(name for name, node in outputs if node is not None and is_standard(node, *BOUNDED))


def _behind_movers(node: Node | None) -> Node | None:
    """The node that computes what this one only moves."""
    while node is not None and is_standard(node, *MOVERS):
        source = node.inputs[0]
        node = None if source is None else source.producer()
    return node


def first_difference(
    expected: Mapping[str, Any],
    actual: Mapping[str, Any],
    least: float = 0.0,
    at_one: Collection[str] = (),
) -> str | None:
    """The first output that differs beyond the tolerance (and ``least``), in words, or None.

    Args:
        expected: what the outputs should be.
        actual: what they are.
        least: the least tolerance.
        at_one: outputs of ``rounded_at_one``.
    """
    if list(expected) != list(actual):
        return f"outputs are {list(actual)}, not {list(expected)}"
    for name, array in expected.items():
        if difference := _difference(array, actual[name], least, ROUNDING if name in at_one else SMALLEST):
            return f"output {name!r} {difference}"
    return None


def _difference(expected: Any, actual: Any, least: float, smallest: float = SMALLEST) -> str | None:
    sequences = [isinstance(value, (list, tuple)) for value in (expected, actual)]
    if any(sequences):
        if not all(sequences) or len(expected) != len(actual):
            return "is another sequence"
        differences = (_difference(*pair, least, smallest) for pair in zip(expected, actual, strict=True))
        return next(filter(None, differences), None)
    if not isinstance(expected, np.ndarray) or not isinstance(actual, np.ndarray):
        return None if str(expected) == str(actual) else "differs"
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        return f"is {actual.dtype}{list(actual.shape)}, not {expected.dtype}{list(expected.shape)}"
    if expected.dtype.kind not in "fc":
        unlike = int(np.sum(expected != actual))
        return f"differs in {unlike} of {expected.size} elements" if unlike else None
    if not np.array_equal(np.isfinite(expected), np.isfinite(actual)):
        return "is finite in other places"
    finite = np.isfinite(expected)
    if not np.array_equal(expected[~finite], actual[~finite], equal_nan=True):
        return "is infinite with another sign, or undefined"
    if not finite.any():
        return None
    a, b = expected[finite].astype(np.complex128), actual[finite].astype(np.complex128)
    worst, scale = float(np.abs(a - b).max()), float(np.abs(a).max())
    allowed = max(TOLERANCE.get(expected.dtype.name, 1e-3), least) * max(scale, smallest)
    return None if worst <= allowed else f"differs by {worst:.3g} where its largest value is {scale:.3g}"
