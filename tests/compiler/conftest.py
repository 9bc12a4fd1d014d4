"""What tests of the compiler share: tiny graphs, a small network on disk, data for it, backends of known behavior."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from graphpress import ir, plugins
from graphpress.backends.onnxruntime.backend import OnnxRuntimeBackend
from graphpress.ir import Editor, constant, save
from graphpress.manager import registry
from graphpress.manager.contract import Outcome, Pass
from graphpress.models import build

FLOAT = onnx.TensorProto.FLOAT


class SlowArtifact:
    """Takes its time over integers."""

    def __init__(self, artifact, slow):
        self._artifact, self._slow = artifact, slow
        self.files = artifact.files

    def run(self, feed):
        if self._slow:
            time.sleep(0.005)
        return self._artifact.run(feed)

    @property
    def bytes(self):
        return self._artifact.bytes

    def findings(self):
        return self._artifact.findings()


class SlowBackend(OnnxRuntimeBackend):
    """Slow on quantized models."""

    def compile(self, prepared, options, out):
        slow = any(node.op_type == "QuantizeLinear" for node in prepared.delivered.graph)
        return SlowArtifact(super().compile(prepared, options, out), slow)


class WordyBackend(OnnxRuntimeBackend):
    """Writes a large file beside quantized models."""

    def compile(self, prepared, options, out):
        artifact = super().compile(prepared, options, out)
        if any(node.op_type == "QuantizeLinear" for node in prepared.delivered.graph):
            (out / "cache.bin").write_bytes(bytes(10_000_000))
            artifact.files.append(out / "cache.bin")
        return artifact


@dataclass(frozen=True)
class Spoil(Pass):
    """Lossy: shuffles the classes."""

    name: ClassVar[str] = "spoil"
    lossless: ClassVar[bool] = False

    def run(self, model, context):
        head = next(node for node in model.graph if node.op_type == "Gemm")
        Editor(model).own_constant(head, 1, np.roll(constant(head.inputs[1]), 1, axis=0))
        return Outcome(1)


@dataclass(frozen=True)
class Nothing(Pass):
    """Lossy, and finds nothing to do."""

    name: ClassVar[str] = "nothing"
    lossless: ClassVar[bool] = False

    def run(self, model, context):
        return Outcome(0)


@dataclass(frozen=True)
class Touch(Pass):
    """Lossless: writes a remark, once."""

    name: ClassVar[str] = "touch"

    def run(self, model, context):
        changes = int(model.graph.doc_string != "touched")
        model.graph.doc_string = "touched"
        return Outcome(changes)


@pytest.fixture
def touch():
    return Touch()


@pytest.fixture
def spoil():
    return Spoil()


@pytest.fixture
def nothing():
    return Nothing()


@pytest.fixture
def backends(monkeypatch):
    """Make the backends above available under the names ``slow`` and ``wordy``."""
    for name, kind in {"slow": SlowBackend, "wordy": WordyBackend}.items():
        monkeypatch.setitem(registry.OWN_BACKENDS, name, f"{kind.__module__}:{kind.__name__}")
    plugins._entries.cache_clear()
    yield
    monkeypatch.undo()
    plugins._entries.cache_clear()


@pytest.fixture(scope="session")
def network_file(tmp_path_factory):
    """A ResNet-20 for images of 16 by 16."""
    file = tmp_path_factory.mktemp("models") / "net.onnx"
    save(build("resnet", depth=8, stem="cifar", width=16, image=16), file)
    return file


@pytest.fixture(scope="session")
def images():
    """Sixty-four images for it."""
    return {"input": np.random.default_rng(0).normal(size=(64, 3, 16, 16)).astype(np.float32)}


class Build:
    """A tiny graph in the making: collects nodes and constants; names of results are made up."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def weight(self, *shape: int) -> str:
        return self.constant(self.random.normal(size=shape).astype(np.float32))

    def constant(self, array: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def __call__(self, op_type: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        names = [f"v{len(self.nodes)}" + (f"_{index}" if index else "") for index in range(outputs)]
        self.nodes.append(helper.make_node(op_type, inputs, names, name=f"n{len(self.nodes)}", **attributes))
        return names[0] if outputs == 1 else names

    def conv(self, data: str, inputs: int, outputs: int, kernel: int = 1, group: int = 1) -> str:
        weight, bias = self.weight(outputs, inputs // group, kernel, kernel), self.weight(outputs)
        return str(self("Conv", data, weight, bias, group=group, pads=[kernel // 2] * 4))

    def model(self, inputs: Mapping[str, Sequence[int | str]], outputs: Sequence[str], *, opset: int = 23) -> ir.Model:
        return ir.from_proto(self.proto(inputs, outputs, opset=opset))

    def proto(
        self, inputs: Mapping[str, Sequence[int | str]], outputs: Sequence[str], *, opset: int = 23
    ) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "tiny",
            [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs.items()],
            [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs],
            self.constants,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


@pytest.fixture(name="build")
def a_build() -> Build:
    return Build()


@pytest.fixture
def new_build() -> Callable[[int], Build]:
    return Build
