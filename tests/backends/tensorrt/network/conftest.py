"""Networks without a GPU: filled by the rules or by NVIDIA's parser, built ahead of time, and computed in numpy."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest

from graphpress.backends.tensorrt.network.lower import lower_network
from graphpress.ir import Model, from_proto
from graphpress.runtime import Session

Arrays = Mapping[str, np.ndarray]
CAPABILITY = "SM86"


def _beside(name: str) -> ModuleType:
    """A module of this folder, which is no package."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


Simulator, KERNELS = _beside("simulator").Simulator, _beside("kernels").KERNELS
MODELS = _beside("node_models")
one_node, make, differences = MODELS.one_node, MODELS.make, MODELS.differences


# -- networks ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def trt() -> Any:
    """TensorRT for RTX, which makes networks and engines without a GPU."""
    return pytest.importorskip("tensorrt_rtx", reason="needs NVIDIA's package: pip install tensorrt-rtx")


class Bench:
    """Makes networks, keeps what TensorRT said of them, builds and computes them."""

    def __init__(self, trt: Any) -> None:
        self.trt = trt
        self.said: list[str] = []
        said = self.said

        class Listener(trt.ILogger):  # type: ignore[misc,name-defined]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, msg: str) -> None:
                if severity <= trt.ILogger.ERROR and "Cuda Runtime" not in msg:
                    said.append(msg)

        self.logger = Listener()
        self.builder = trt.Builder(self.logger)

    def lower(self, model: Model) -> Any:
        """The network that the rules make of a model."""
        self.said.clear()
        network = self.builder.create_network(0)
        lower_network(model, self.trt, network)
        return network

    def parse(self, proto: onnx.ModelProto) -> Any | None:
        """The network that NVIDIA's parser makes of it, None where it refuses."""
        network = self.builder.create_network(0)
        return network if self.trt.OnnxParser(network, self.logger).parse(proto.SerializeToString()) else None

    def run(self, network: Any, feed: Arrays) -> list[np.ndarray]:
        """The outputs, computed layer by layer."""
        names = (network.get_input(index).name for index in range(network.num_inputs))
        return list(Simulator(self.trt, network, KERNELS).run({name: feed[name] for name in names}).values())

    def build(self, network: Any, capability: str = CAPABILITY) -> int:
        """The size of the engine.

        Raises:
            AssertionError: there is none; the message is what TensorRT said.
        """
        self.said.clear()
        config = self.builder.create_builder_config()
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(self.trt.ComputeCapability, capability), 0)
        inputs = [network.get_input(index) for index in range(network.num_inputs)]
        if open_ones := [tensor for tensor in inputs if -1 in tuple(tensor.shape)]:
            profile = self.builder.create_optimization_profile()
            for tensor in open_ones:
                sizes = [tuple(size if dim < 0 else dim for dim in tensor.shape) for size in (1, 2, 4)]
                profile.set_shape(tensor.name, *sizes)
            config.add_optimization_profile(profile)
        plan = self.builder.build_serialized_network(network, config)
        assert plan is not None, self.said
        return int(plan.nbytes)

    def agrees(self, proto: onnx.ModelProto, feed: Arrays) -> Any:
        """The lowered network, once its outputs are seen to be those of ONNX Runtime."""
        model = from_proto(proto, where="test")
        network = self.lower(model)
        expected = list(Session(model, optimization="none").run(feed).values())
        assert (fault := differences(self.run(network, feed), expected)) == "", fault
        return network


@pytest.fixture(scope="session")
def bench(trt: Any) -> Bench:
    """One for all tests: TensorRT is slow to wake."""
    return Bench(trt)


class Older:
    """A network of a TensorRT that has not all methods."""

    def __init__(self, network: Any, missing: Sequence[str]) -> None:
        self._network, self._missing = network, missing

    def __getattr__(self, name: str) -> Any:
        if name in self._missing:
            raise AttributeError(name)
        return getattr(self._network, name)


@pytest.fixture
def lower_without(bench: Bench) -> Callable[..., Any]:
    """Lowers a model as for a TensorRT without some methods."""
    kept = []  # constants live as long as the object that was filled

    def lower(proto: onnx.ModelProto, *missing: str) -> Any:
        network = bench.builder.create_network(0)
        kept.append(Older(network, missing))
        lower_network(from_proto(proto, where="test"), bench.trt, kept[-1])
        return network

    return lower
