"""Models from text, and what compares a module with ONNX Runtime."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx.parser
import pytest
from onnx import numpy_helper

from graphpress import torch_bridge
from graphpress.ir import Model, Value, clone, from_proto
from graphpress.ir.qdq import materialize_qdq
from graphpress.runtime import Session


def build_model(text: str, opset: int = 17, functions: str = "", **weights: np.ndarray) -> Model:
    imports = f'"": {opset}, "custom": 1' + (', "local": 1' if functions else "")
    proto = onnx.parser.parse_model(f"<ir_version: 10, opset_import: [{imports}]> g {text}\n{functions}")
    proto.graph.initializer.extend(numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items())
    return from_proto(proto)


def feed_of(model: Model, batch: int = 2, seed: int = 0) -> dict[str, np.ndarray]:
    """Made-up inputs; open sizes are ``batch``, integers are 0 or 1."""
    random = np.random.default_rng(seed)
    feed = {}
    for spec in Session(model).inputs:
        dims = [dim if isinstance(dim, int) else batch for dim in spec.dims or ()]
        whole = spec.dtype.kind in "biu"
        feed[spec.name] = (random.integers(0, 2, dims) if whole else random.normal(size=dims)).astype(spec.dtype)
    return feed


def run_module(module: Any, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    import torch

    with torch.no_grad():
        outputs = module({name: torch.from_numpy(array) for name, array in feed.items()})
    return {name: tensor.detach().numpy() for name, tensor in outputs.items()}


def run_lowered(model: Model, feed: Mapping[str, np.ndarray], outputs: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """ONNX Runtime on the model with its encodings written out, each computed as it is written."""
    materialized = clone(model)
    materialize_qdq(materialized)
    return Session(materialized, optimization="none", extra_outputs=outputs).run(feed)


def difference(got: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]) -> float:
    """The largest deviation of any output, relative to that output's largest number (at least 1)."""
    assert got.keys() >= wanted.keys()
    return max(
        float(np.abs(got[name].astype(np.float64) - array).max(initial=0) / max(1, np.abs(array).max(initial=0)))
        for name, array in wanted.items()
    )


def value_of(model: Model, name: str) -> Value:
    graph = model.graph
    values = [*graph.inputs, *graph.initializers.values(), *(value for node in graph for value in node.outputs)]
    return next(value for value in values if value.name == name)


def shake(trained: Any, by: float = 0.05, seed: int = 0) -> None:
    """Change every parameter at random, in proportion to its size."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    for parameter in trained.parameters.values():
        noise = torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
        parameter.data += by * parameter.data.abs().mean() * noise


@pytest.fixture
def build():
    return build_model


@pytest.fixture
def made_up():
    return feed_of


@pytest.fixture
def run():
    return run_module


@pytest.fixture
def materialized():
    return run_lowered


@pytest.fixture
def deviation():
    return difference


@pytest.fixture
def find():
    return value_of


@pytest.fixture
def shaken():
    return shake


@pytest.fixture
def bridge():
    pytest.importorskip("torch", reason="the bridge needs PyTorch: pip install 'graphpress[torch]'").set_num_threads(1)
    return torch_bridge
