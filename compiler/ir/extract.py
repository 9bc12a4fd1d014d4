"""A part of a graph as a model of its own: what lies between some values and some others."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir

from graphpress.ir.opaque import carry_opacity
from graphpress.ir.types import Model


def extract(model: Model, inputs: Sequence[str], outputs: Sequence[str]) -> Model:
    """The nodes of the main graph that lead from ``inputs`` to ``outputs``, as a model that shares the tensors.

    Args:
        model: not changed.
        inputs: names of values, graph inputs or inner ones, which become the graph inputs.
        outputs: names of values, none of them among the inputs, which become the graph outputs.

    Raises:
        ValueError: there is no such value, or an output depends on a graph input that is not among ``inputs``.
    """
    graph = onnx_ir.convenience.extract(model.graph, list(inputs), list(outputs))
    part = onnx_ir.Model(
        graph,
        ir_version=model.ir_version,
        functions=list(model.functions.values()),
        producer_name=model.producer_name,
    )
    carry_opacity(model, part)
    return part
