"""Single nodes against ONNX Runtime: many in one graph, so that one library answers for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx

from graphpress.analysis.shapes import infer_shapes
from graphpress.backends.tvm.artifact import write_library
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.kernels.generic import GenericLoops
from graphpress.backends.tvm.lowering.lower import lower
from graphpress.ir import Model, from_proto
from graphpress.runtime import CompiledModel, Session

OPSET = 21


class Case(NamedTuple):
    """A node.

    Args:
        op: the operator.
        inputs: shapes of what it computes with, arrays of what is constant, and None for what it lacks.
        attributes: of the node.
        outputs: how many it has.
    """

    op: str
    inputs: Sequence[tuple[int, ...] | np.ndarray | None]
    attributes: Mapping[str, object] = {}
    outputs: int = 1


def graph_of(cases: Mapping[str, Case]) -> Model:
    """A graph of nodes that have nothing to do with each other; inputs and outputs are named after them."""
    nodes, inputs, outputs, constants = [], [], [], []
    for name, case in cases.items():
        reads = [f"{name}_{index}" if given is not None else "" for index, given in enumerate(case.inputs)]
        writes = [f"{name}_result_{index}" for index in range(case.outputs)]
        nodes.append(onnx.helper.make_node(case.op, reads, writes, name=name, **case.attributes))
        for read, given in zip(reads, case.inputs, strict=True):
            if isinstance(given, tuple):
                inputs.append(onnx.helper.make_tensor_value_info(read, onnx.TensorProto.FLOAT, given))
            elif given is not None:
                constants.append(onnx.numpy_helper.from_array(given, read))
        outputs += [onnx.helper.make_tensor_value_info(write, onnx.TensorProto.FLOAT, None) for write in writes]
    graph = onnx.helper.make_graph(nodes, "nodes", inputs, outputs, constants)
    model = from_proto(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=10)
    )
    infer_shapes(model)
    return model


def check(cases: Mapping[str, Case], isa: Isa, folder: Path, low: float = -3.0, high: float = 3.0) -> None:
    """Compile the nodes, run them, and compare.

    Args:
        cases: nodes by name.
        isa: for what.
        folder: for the library.
        low: least of the random numbers.
        high: largest of the random numbers.
    """
    model, rng = graph_of(cases), np.random.default_rng(0)
    feed = {
        f"{name}_{index}": rng.uniform(low, high, given).astype(np.float32)
        for name, case in cases.items()
        for index, given in enumerate(case.inputs)
        if isinstance(given, tuple)
    }
    expected = Session(model).run(feed)
    program = lower(model, isa)
    assert [step.nodes for step in program.steps if isinstance(step.kernel, GenericLoops)] == []
    write_library(program, isa, folder)
    for name, result in CompiledModel(folder, threads=1).run(feed).items():
        np.testing.assert_allclose(result, expected[name], rtol=2e-5, atol=2e-6, err_msg=name)
