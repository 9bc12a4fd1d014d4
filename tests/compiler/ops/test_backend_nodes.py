"""Every axis rule runs on the ONNX backend node tests of its operator and gives axes as long as the real outputs."""

from __future__ import annotations

import warnings
from collections import defaultdict
from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest

from graphpress import ir
from graphpress.analysis.channels import propagate
from graphpress.ir import NodeView, UnknownShapeError
from graphpress.ops import Work, lookup, table


@cache
def node_cases() -> dict[str, list[Any]]:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    found = defaultdict(list)
    for case in cases:
        graph = case.model.graph
        if len(graph.node) == 1 and graph.node[0].domain == "" and only_arrays(case):
            found[graph.node[0].op_type].append(case)
    return found


def only_arrays(case: Any) -> bool:
    return bool(case.data_sets) and all(
        isinstance(array, np.ndarray | np.generic) for side in case.data_sets[0] for array in side
    )


def operators_with_cases() -> list[str]:
    return sorted(table())


def shapes_of(case: Any) -> dict[str, tuple[int, ...]]:
    inputs, outputs = case.data_sets[0]
    pairs = [*zip(case.model.graph.input, inputs, strict=False), *zip(case.model.graph.output, outputs, strict=False)]
    return {info.name: array.shape for info, array in pairs}


def with_constant_parameters(case: Any) -> onnx.ModelProto:
    """The same model with its integer inputs, which say where to cut or what to pick, as constants."""
    proto = onnx.ModelProto()
    proto.CopyFrom(case.model)
    proto.ir_version = max(proto.ir_version, 4)
    for info, array in list(zip(case.model.graph.input, case.data_sets[0][0], strict=False))[1:]:
        if isinstance(array, np.ndarray) and array.dtype == np.int64:
            proto.graph.initializer.append(onnx.numpy_helper.from_array(array, info.name))
            names = [one.name for one in proto.graph.input]
            del proto.graph.input[names.index(info.name)]
    return proto


@pytest.mark.parametrize("op_type", operators_with_cases())
def test_axes_are_as_long_as_the_real_outputs(op_type: str) -> None:
    cases = node_cases().get(op_type, [])
    if not cases:
        pytest.skip(f"onnx has no one-node test of {op_type}")
    for case in cases:
        shapes = shapes_of(case)
        for proto in (case.model, with_constant_parameters(case)):
            model = ir.from_proto(proto)
            channels = propagate(model, shapes)
            assert channels.notes == [], case.name
            for output in model.graph.outputs:
                if output.name in shapes:
                    assert tuple(map(len, channels.axes[output])) == shapes[output.name], case.name


@pytest.mark.parametrize("op_type", operators_with_cases())
def test_cost_is_known_wherever_shapes_are(op_type: str) -> None:
    for case in node_cases().get(op_type, []):
        shapes = shapes_of(case)
        node = next(iter(ir.from_proto(case.model).graph))
        view = NodeView.of(
            node,
            input_shapes=tuple(None if value is None else shapes.get(value.name or "") for value in node.inputs),
            output_shapes=tuple(shapes.get(value.name or "") for value in node.outputs),
        )
        spec = lookup(op_type)
        assert spec is not None
        try:
            work = spec.cost(view)
        except UnknownShapeError:
            pytest.fail(f"{case.name}: cost asked for a shape that is unknown")
        assert isinstance(work, Work)
        assert work.macs >= 0
        assert work.operations >= 0
