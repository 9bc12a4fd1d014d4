"""Small graphs from text, quantized with made-up data and written for ONNX Runtime."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx.parser
import pytest
from text_models import model_of

from graphpress.backends.onnxruntime.backend import OnnxRuntimeBackend
from graphpress.ir import Model, Node, Value, clone, verify
from graphpress.ir.encoding import AffineEncoding, compute_request, encoding_of, read_encoding
from graphpress.manager.contract import Context, Outcome, Pass
from graphpress.passes.quantize.quantize import Quantize
from graphpress.runtime import Session
from graphpress.targets import QuantizationPolicy, Target, load_target


def random_feeds(model: Model, count: int = 8, seed: int = 0) -> list[dict[str, np.ndarray]]:
    """Normal numbers for every input; open sizes are 2."""
    random = np.random.default_rng(seed)
    shapes = {spec.name: [dim if isinstance(dim, int) else 2 for dim in spec.dims] for spec in Session(model).inputs}
    return [{name: random.normal(size=dims).astype(np.float32) for name, dims in shapes.items()} for _ in range(count)]


@dataclass
class Quantized:
    """A model after the pass."""

    before: Model
    model: Model
    outcome: Outcome
    feeds: list[dict[str, np.ndarray]]

    def value(self, name: str) -> Value:
        graph = self.model.graph
        found = {value.name: value for value in (*graph.inputs, *graph.initializers.values())}
        return (found | {value.name: value for node in graph for value in node.outputs})[name]

    def node(self, name: str) -> Node:
        return next(node for node in self.model.graph if node.outputs[0].name == name)

    def encoding(self, name: str) -> AffineEncoding | None:
        return encoding_of(self.value(name))

    def read(self, node: str, index: int) -> AffineEncoding | None:
        """How the node that computes ``node`` reads one of its inputs."""
        return read_encoding(self.node(node), index)

    @property
    def integer(self) -> set[str]:
        """Results of the nodes that were asked to compute in integers."""
        return {node.outputs[0].name for node in self.model.graph if compute_request(node) == "int8"}

    @property
    def refused(self) -> dict[str, str]:
        return {refusal.where: refusal.why for refusal in self.outcome.refusals}

    def legal(self) -> Model:
        """As ONNX Runtime gets it."""
        return OnnxRuntimeBackend().prepare(self.model, load_target("cpu")).delivered

    def kernels(self, folder: Path) -> list[str]:
        """Operators of the graph that ONNX Runtime makes of it and runs."""
        Session(self.legal(), optimized_path=folder / "optimized.onnx")
        return [node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node]

    def sqnr(self) -> dict[str, float]:
        """Signal to quantization noise of each output, in dB, over all feeds."""
        floats, integers = Session(self.before), Session(self.legal())
        signal: dict[str, float] = {}
        noise: dict[str, float] = {}
        for feed in self.feeds:
            expected, actual = floats.run(feed), integers.run(feed)
            for name, one in expected.items():
                signal[name] = signal.get(name, 0.0) + float(np.square(one.astype(np.float64)).sum())
                noise[name] = noise.get(name, 1e-30) + float(np.square(one.astype(np.float64) - actual[name]).sum())
        return {name: 10 * float(np.log10(signal[name] / noise[name])) for name in signal}


@pytest.fixture(scope="session")
def build() -> Callable[..., Model]:
    return model_of


@pytest.fixture(scope="session")
def policy() -> QuantizationPolicy:
    """That of ONNX Runtime on a processor with VNNI, whatever this machine has."""
    return replace(load_target("cpu").quantization, reduced_range=False)


@pytest.fixture(scope="session")
def jetson() -> Target:
    """A target whose products accumulate into residual additions, with scales in half precision."""
    return load_target("jetson")


@pytest.fixture(scope="session")
def quantize(policy) -> Callable[..., Quantized]:
    """Quantize a model on random feeds (or given ones)."""

    def run(
        model: Model,
        feeds: Iterable[dict[str, np.ndarray]] | None = None,
        exclude=None,
        one: Pass | None = None,
        target: Target | None = None,
        **changes,
    ) -> Quantized:
        target = target or replace(load_target("cpu"), quantization=replace(policy, **changes))
        calibration = list(random_feeds(model) if feeds is None else feeds)
        context = Context(target=target, original=model, calibration=calibration, exclude=exclude)
        after = clone(model)
        outcome = (one or Quantize()).run(after, context)
        verify(after)
        return Quantized(model, after, outcome, calibration)

    return run


@pytest.fixture(scope="session")
def weights() -> SimpleNamespace:
    """Seeded weights by shape."""
    return SimpleNamespace(
        of=lambda *shape, seed=0: np.random.default_rng(seed).normal(size=shape).astype(np.float32) * 0.3
    )
