"""The analyses run on every kind of model: nothing raises, and sizes agree with what the model declares."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import pytest

from graphpress import ir
from graphpress.analysis.channels import propagate
from graphpress.analysis.cost import model_cost
from graphpress.analysis.shapes import concrete_shapes, infer_shapes

PARTS = 4
EVERY = 3
"""One in so many of onnx's node tests (sequences, optionals, subgraphs, functions, strings): enough of each kind."""


@cache
def cases() -> list[Any]:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(collect_testcases(None))[::EVERY]


@pytest.mark.parametrize("part", range(PARTS))
def test_node_tests_of_onnx(part: int) -> None:
    for case in cases()[part::PARTS]:
        model = ir.from_proto(case.model)
        assert infer_shapes(model) == [], case.name
        shapes = concrete_shapes(model)
        cost = model_cost(model, shapes)
        assert cost.nodes >= len(cost.layers), case.name
        propagate(model, shapes)
        for output in model.graph.outputs:
            declared = ir.static_shape(output)
            if declared is not None and output.name in shapes:
                assert shapes[output.name] == declared, case.name
