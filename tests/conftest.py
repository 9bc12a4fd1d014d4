"""What tests of every room share."""

from __future__ import annotations

import cProfile
import pstats
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from graphpress import ir

FLOAT = onnx.TensorProto.FLOAT


def count_calls(call: Callable[[], object]) -> int:
    """How many function calls it takes: a measure of work that does not depend on how busy the machine is."""
    profile = cProfile.Profile()
    profile.runcall(call)
    return pstats.Stats(profile).total_calls


@pytest.fixture
def work() -> Callable[[Callable[[], object]], int]:
    """Counts the function calls that something takes."""
    return count_calls


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


@pytest.fixture
def build() -> Build:
    return Build()


@pytest.fixture
def new_build() -> Callable[[int], Build]:
    return Build
