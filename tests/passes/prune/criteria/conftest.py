"""A small network with two prunable groups, one of which has units that do next to nothing."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import onnx.parser
import pytest
from onnx import numpy_helper

from graphpress.coupling import Coupling, Group, couple
from graphpress.ir import Model, from_proto
from graphpress.manager.contract import Context
from graphpress.manager.prepare import prepare
from graphpress.targets import load_target

WIDTH, INNER, CLASSES = 8, 12, 5
USELESS = (2, 5)

_PLAIN = """(float[N,3,8,8] x) => (float[N,5] y) {
    a = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(x, w1, b1)
    r = Relu(a)
    c = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(r, w2, b2)
    d = Relu(c)
    g = GlobalAveragePool(d)
    f = Flatten(g)
    y = Gemm<transB=1>(f, w3, b3)
}"""

_NORMALIZED = _PLAIN.replace("(x, w1, b1)", "(x, w1)").replace(
    "r = Relu(a)", "n = BatchNormalization(a, gamma, beta, mean, var) r = Relu(n)"
)


def model_of(text: str, **weights: np.ndarray) -> Model:
    """A model from the text of its graph; weights are named in the call."""
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 17]> g {text}')
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    model = from_proto(proto)
    prepare(model, {})
    return model


@dataclass
class Case:
    """A model with its groups and data."""

    model: Model
    feeds: list[dict[str, np.ndarray]]
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    seed: int = 0

    @property
    def coupling(self) -> Coupling:
        return couple(self.model)

    @property
    def context(self) -> Context:
        return Context(load_target("cpu"), self.model, calibration=self.feeds, seed=self.seed)

    @property
    def first(self) -> Group:
        """The group that the first convolution writes."""
        return self.coupling.groups[0]

    def score(self, criterion, **changes) -> dict[str, np.ndarray]:
        return criterion.score(self.model, self.coupling, replace(self.context, **changes))


def weights_of(seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    shapes = {
        "w1": (WIDTH, 3, 3, 3),
        "b1": (WIDTH,),
        "w2": (INNER, WIDTH, 3, 3),
        "b2": (INNER,),
        "w3": (CLASSES, INNER),
        "b3": (CLASSES,),
    }
    return {name: (random.normal(size=shape) * 0.3).astype(np.float32) for name, shape in shapes.items()}


def feeds_of(count: int = 32, batch: int = 16, seed: int = 1) -> list[dict[str, np.ndarray]]:
    images = np.random.default_rng(seed).normal(size=(count, 3, 8, 8)).astype(np.float32)
    return [{"x": images[start : start + batch]} for start in range(0, count, batch)]


@pytest.fixture
def case() -> Callable[..., Case]:
    """Build the network, its weights changed by a function of them."""

    def build(change: Callable[[dict[str, np.ndarray]], None] = lambda weights: None, seed: int = 0) -> Case:
        weights = weights_of(seed)
        change(weights)
        return Case(model_of(_PLAIN, **weights), feeds_of(), weights)

    return build


@pytest.fixture
def normalized() -> Callable[..., Case]:
    """The same network with a BatchNormalization behind the first convolution."""

    def build(gamma: np.ndarray) -> Case:
        weights = weights_of()
        del weights["b1"]
        random = np.random.default_rng(3)
        weights |= {"gamma": gamma.astype(np.float32), "beta": random.normal(size=WIDTH).astype(np.float32)}
        weights |= {"mean": np.zeros(WIDTH, np.float32), "var": np.ones(WIDTH, np.float32)}
        return Case(model_of(_NORMALIZED, **weights), feeds_of(), weights)

    return build


@pytest.fixture
def of_text() -> Callable[..., Model]:
    return model_of
