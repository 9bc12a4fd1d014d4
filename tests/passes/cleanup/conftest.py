"""What the tests of the clean-up passes share: models from text, and what must hold after every pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnx.parser
import onnx.shape_inference
import pytest
from onnx import numpy_helper

from graphpress.ir import Model, clone, from_proto, verify
from graphpress.manager.contract import Context, Outcome, Pass
from graphpress.runtime import Session
from graphpress.targets import load_target


@dataclass
class Cleaned:
    """A model after a pass, and what the pass reported."""

    model: Model
    outcome: Outcome

    @property
    def ops(self) -> list[str]:
        return [node.op_type for node in self.model.graph]

    @property
    def reasons(self) -> str:
        return "; ".join(refusal.why for refusal in self.outcome.refusals)


def build(text: str, *, opset: int = 17, functions: str = "", **weights: np.ndarray) -> Model:
    """A model from the text of its graph, ``(inputs) => (outputs) { nodes }``; weights are named in the call."""
    imports = f'"": {opset}' + (', "local": 1' if functions else "")
    proto = onnx.parser.parse_model(f"<ir_version: 10, opset_import: [{imports}]> g {text}\n{functions}")
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    return from_proto(onnx.shape_inference.infer_shapes(proto))


def run(model: Model, feed: Mapping[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
    """The outputs on random inputs (the same for the same inputs), without the runtime's own rewriting."""
    session = Session(model, optimization="none")
    random = np.random.default_rng(0)
    made_up = {
        spec.name: np.asarray(random.normal(size=[dim if isinstance(dim, int) else 3 for dim in spec.dims]) * 3).astype(
            spec.dtype
        )
        for spec in session.inputs
    }
    return session.run({**made_up, **(feed or {})})


def apply(rule: Pass, model: Model) -> Outcome:
    """One run of a pass; the graph is valid after it."""
    outcome = rule.run(model, Context(load_target("cpu"), clone(model)))
    verify(model)
    return outcome


def clean(rule: Pass, before: Model, feed: Mapping[str, np.ndarray] | None = None, rtol: float = 1e-6) -> Cleaned:
    """Apply a pass to a copy; it computes the same, and a second run changes nothing."""
    after = clone(before)
    outcome = apply(rule, after)
    expected, got = run(before, feed), run(after, feed)
    assert list(got) == list(expected)
    for name, array in expected.items():
        assert got[name].dtype == array.dtype
        np.testing.assert_allclose(got[name], array, rtol=rtol, atol=rtol)
    again = clone(after)
    assert apply(rule, again).changes == 0
    return Cleaned(after, outcome)


@pytest.fixture(name="build")
def _build() -> Callable[..., Model]:
    return build


@pytest.fixture(name="clean")
def _clean() -> Callable[..., Cleaned]:
    return clean


@pytest.fixture(name="apply")
def _apply() -> Callable[..., Outcome]:
    return apply


@pytest.fixture(name="run")
def _run() -> Callable[..., dict[str, np.ndarray]]:
    return run
