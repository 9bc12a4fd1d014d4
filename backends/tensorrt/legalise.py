"""The forms of a model that TensorRT takes, each spelt from the same annotations.

    strong     every type stands in the model: float16 tensors, Q/DQ with scales of the same type. TensorRT 10 and
               later build exactly that.
    weak       float32 with Q/DQ; flags allow the rest to run in float16. All that TensorRT 8 understands.
    implicit   plain float32; ranges come from a calibration cache. What the deep learning accelerator wants.

The Q/DQ forms share one grid: scales are numbers that float16 holds exactly.
"""

from __future__ import annotations

from graphpress.ir import Model, clone, graphs, lower_float_types
from graphpress.ir.encoding import clear_annotations, float_type, set_float_type
from graphpress.ir.qdq import lower_qdq

UNKNOWN_TO_ONNX_RUNTIME = ("bfloat16",)
"""Float types in which ONNX Runtime has no kernels on a processor."""


def strong_form(model: Model) -> Model:
    """A copy with every type written out."""
    form = clone(model)
    lower_qdq(form)
    lower_float_types(form)
    return form


def weak_form(model: Model) -> Model:
    """A copy in float32 with Q/DQ nodes."""
    form = clone(model)
    for graph in graphs(form):
        for node in graph:
            set_float_type(node, None)
    lower_qdq(form)
    return form


def implicit_form(model: Model) -> Model:
    """A copy in plain float32: encodings are left out, what was quantised stands as it was before."""
    form = clone(model)
    for graph in graphs(form):
        for value in (*graph.inputs, *graph.initializers.values()):
            clear_annotations(value)
        for node in graph:
            clear_annotations(node)
            for value in node.outputs:
                clear_annotations(value)
    return form


def simulated_form(model: Model, *, strong: bool) -> Model:
    """A copy that ONNX Runtime computes as the device would, rounding where it has no kernels of a type."""
    if not strong:
        return weak_form(model)
    form = clone(model)
    types = {float_type(node) for graph in graphs(form) for node in graph}
    lower_qdq(form)
    lower_float_types(form, simulate=bool(types & set(UNKNOWN_TO_ONNX_RUNTIME)))
    return form
