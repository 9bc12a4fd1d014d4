"""Graphs from text, annotated by the pass and written out, in float32's company."""

from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from graphpress.ir import Model, clone, from_proto, materialize_float_types, problems, to_proto, verify
from graphpress.ir.encoding import float_type
from graphpress.ir.qdq import materialize_qdq
from graphpress.manager.contract import Context, Outcome
from graphpress.manager.evaluator import NoEvaluator
from graphpress.manager.manager import Manager
from graphpress.manager.prepare import prepare
from graphpress.manager.recipe import from_name
from graphpress.models import build as build_family
from graphpress.passes.precision.reduce_precision import ReducePrecision
from graphpress.runtime import Session
from graphpress.targets import load_target


def model_of(text: str, opset: int = 17, **weights: np.ndarray) -> Model:
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": {opset}, "custom": 1]> g {text}')
    proto.graph.initializer.extend(numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items())
    model = from_proto(proto)
    prepare(model, {})
    return model


def feeds_for(model: Model, count: int = 4, seed: int = 1) -> list[dict[str, np.ndarray]]:
    """Normal numbers, and zeros and ones for integers; open sizes are 2 for batches and 16 elsewhere."""
    random = np.random.default_rng(seed)
    inputs = Session(model).inputs

    def array(spec):
        dims = [dim if isinstance(dim, int) else {"batch": 2, "N": 2}.get(dim, 16) for dim in spec.dims]
        whole = spec.dtype.kind in "biu"
        return random.integers(0, 2, dims).astype(spec.dtype) if whole else random.normal(size=dims).astype(spec.dtype)

    return [{spec.name: array(spec) for spec in inputs} for _ in range(count)]


@dataclass
class Reduced:
    """A model after the pass."""

    before: Model
    model: Model
    outcome: Outcome
    feeds: list[dict[str, np.ndarray]]
    decisions: dict = field(default_factory=dict)

    @property
    def typed(self) -> set[str]:
        """Results of the nodes that were asked for another type."""
        return {node.outputs[0].name for node in self.model.graph if float_type(node) is not None}

    @property
    def refused(self) -> dict[str, str]:
        return {refusal.where: refusal.why for refusal in self.outcome.refusals}

    def legal(self, simulate: bool = False) -> Model:
        """Written out and checked; public names and types are as before."""
        legal = clone(self.model)
        materialize_qdq(legal)
        materialize_float_types(legal, simulate=simulate)
        assert problems(legal) == []
        proto = to_proto(legal)
        onnx.checker.check_model(proto, full_check=True)
        onnx.shape_inference.infer_shapes(proto, strict_mode=True)
        for now, then in zip(
            (*legal.graph.inputs, *legal.graph.outputs),
            (*self.before.graph.inputs, *self.before.graph.outputs),
            strict=True,
        ):
            assert (now.name, now.type) == (then.name, then.type)
        return legal

    def error(self, simulate: bool = False) -> float:
        """The largest difference to float32, relative to the largest element of each output."""
        floats, others = Session(self.before), Session(self.legal(simulate))
        worst = 0.0
        for feed in self.feeds:
            expected, actual = floats.run(feed), others.run(feed)
            for name, one in expected.items():
                if one.dtype.kind == "f":
                    apart = np.abs(actual[name].astype(np.float64) - one)
                    worst = max(worst, float(apart.max() / (np.abs(one).max() + 1e-9)))
        return worst


def reduce_model(model: Model, feeds=None, *, data=True, target="jetson", exclude=None, **fields) -> Reduced:
    """Run the pass on a copy, with the feeds (made up unless given) as calibration data."""
    feeds = feeds_for(model) if feeds is None else feeds
    after = clone(model)
    context = Context(target=load_target(target), original=model, calibration=feeds if data else None, exclude=exclude)
    one = ReducePrecision(**fields)
    assert one.refuse(after, context) is None
    outcome = one.run(after, context)
    verify(after)
    return Reduced(model, after, outcome, feeds, context.decisions)


def cleaned_family(family: str, **options) -> Model:
    """A family through the clean-up and fusions that come first."""
    model = build_family(family, **options)
    prepare(model, {})
    recipe = from_name("int8")
    lossless = type(recipe)(tuple(one for one in recipe.passes if one.lossless))
    context = Context(target=load_target("jetson"), original=model)
    manager = Manager(context, NoEvaluator(), feeds_for(model, 1), verification="none")
    return manager.run(model, lossless).checkpoints[-1].model


@pytest.fixture(scope="session")
def build():
    return model_of


@pytest.fixture(scope="session")
def feeds():
    return feeds_for


@pytest.fixture(scope="session")
def reduce():
    return reduce_model


@pytest.fixture(scope="session")
def cleaned():
    return cleaned_family
