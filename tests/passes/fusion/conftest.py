"""What the tests of the fusion rules share: models from text, and the four checks that every rule must pass."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from graphpress.ir import Model, clone, from_proto, verify
from graphpress.manager.contract import Context, Outcome, Pass
from graphpress.runtime import Session
from graphpress.targets import Target


def build_model(text: str, opset: int = 17, ir_version: int = 10, functions: str = "", **weights: np.ndarray) -> Model:
    """A model from the text of its graph, ``(inputs) => (outputs) { nodes }``; weights are named in the call.

    ``float y`` is a value of unknown shape (for ONNX's own parser it is a scalar).
    """
    text = re.sub(r"\b(float|float16|bfloat16|double|int32) (?=\w)", r"\1[] ", text)
    imports = f'"": {opset}' + (', "local": 1' if functions else "")
    proto = onnx.parser.parse_model(f"<ir_version: {ir_version}, opset_import: [{imports}]> g {text}\n{functions}")
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    return from_proto(onnx.shape_inference.infer_shapes(proto))


def random_feed(session: Session, seed: int = 0) -> dict[str, np.ndarray]:
    """Normal numbers for every input; unknown sizes are 3."""
    random = np.random.default_rng(seed)
    sizes = {spec.name: [dim if isinstance(dim, int) else 3 for dim in spec.dims] for spec in session.inputs}
    return {spec.name: random.normal(size=sizes[spec.name]).astype(spec.dtype) for spec in session.inputs}


def run_plain(model: Model, feed: Mapping[str, np.ndarray] | None = None) -> list[np.ndarray]:
    """The outputs in ONNX Runtime without its own rewriting."""
    session = Session(model, optimization="none")
    outputs = session.run(random_feed(session) if feed is None else feed)
    return [np.asarray(outputs[name]) for name in session.output_names]


def op_types(model: Model) -> list[str]:
    """The operators of the main graph, constants left out."""
    return [node.op_type for node in model.graph if node.op_type != "Constant"]


def run_pass(rule: Pass, model: Model, target: Target | None = None) -> Outcome:
    """One run of a pass, for a target that reads everything and where everything pays."""
    if target is None:
        target = Target("test", "all fusions pay", opset_max=24, fused_operators=())
    return rule.run(model, Context(target=target, original=model))


@dataclass
class Fused:
    """A model after the rule, and what the rule reported."""

    model: Model
    outcome: Outcome

    @property
    def ops(self) -> list[str]:
        return op_types(self.model)


def apply_and_check(
    rule: Pass,
    model: Model,
    rtol: float = 1e-5,
    atol: float | None = None,
    feed: Mapping[str, np.ndarray] | None = None,
) -> Fused:
    """Apply the rule to a copy; the result is valid, computes the same, and a second run changes nothing."""
    after = clone(model)
    outcome = run_pass(rule, after)
    verify(after)
    for expected, actual in zip(run_plain(model, feed), run_plain(after, feed), strict=True):
        assert expected.shape == actual.shape
        assert expected.dtype == actual.dtype
        scale = float(np.abs(expected.astype(np.float64)).max(initial=1e-30))
        np.testing.assert_allclose(
            actual.astype(np.float64),
            expected.astype(np.float64),
            rtol=rtol,
            atol=rtol * scale if atol is None else atol,
        )
    assert run_pass(rule, clone(after)).changes == 0
    return Fused(after, outcome)


@pytest.fixture(scope="session")
def build() -> Callable[..., Model]:
    return build_model


@pytest.fixture(scope="session")
def fuse() -> Callable[..., Fused]:
    return apply_and_check


@pytest.fixture(scope="session")
def refusals() -> Callable[[Pass, Model], list[str]]:
    """The reasons for which a rule leaves the model as it is."""

    def reasons(rule: Pass, model: Model) -> list[str]:
        before = op_types(model)
        outcome = run_pass(rule, model)
        assert outcome.changes == 0
        assert op_types(model) == before
        return [refusal.why for refusal in outcome.refusals]

    return reasons
