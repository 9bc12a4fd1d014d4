"""The forms of a model that TensorRT takes, each spelt from the same annotations.

    strong     every type stands in the model: float16 tensors, Q/DQ with scales of the same type. TensorRT 10 and
               later build exactly that.
    weak       float32 with Q/DQ; flags allow the rest to run in float16. All that TensorRT 8 understands.
    implicit   plain float32; ranges come from a calibration cache. What the deep learning accelerator wants.

The Q/DQ forms share one grid: scales are numbers that float16 holds exactly. Those that a model brings along may be
others: their Q/DQ nodes keep float32 in the strong form too, between casts, which TensorRT fuses all the same.

Encodings are put in TensorRT's words before anything is spelt (``pinned``): unsigned integers around their middle
become signed ones around 0, a bias in int32 becomes float.
"""

from __future__ import annotations

from graphpress.backends.tensorrt.pinned import respell
from graphpress.ir import Graph, Model, clone, graphs, lower_float_types
from graphpress.ir.encoding import clear_annotations, float_type, set_float_type
from graphpress.ir.qdq import lower_qdq

UNKNOWN_TO_ONNX_RUNTIME = ("bfloat16",)
"""Float types in which ONNX Runtime has no kernels on a processor."""


def respelt_copy(model: Model) -> Model:
    """A copy whose encodings stand in TensorRT's words; annotations all the same."""
    copy = clone(model)
    respell(copy)
    return copy


def strong_form(model: Model) -> Model:
    """A copy with every type written out."""
    form = respelt_copy(model)
    lower_qdq(form)
    lower_float_types(form)
    return form


def weak_form(model: Model) -> Model:
    """A copy in float32 with Q/DQ nodes."""
    form = respelt_copy(model)
    for graph in graphs(form):
        for node in graph:
            set_float_type(node, None)
    lower_qdq(form)
    return form


def implicit_form(model: Model) -> Model:
    """A copy in plain float32: encodings are left out, what was quantised stands as it was before."""
    form = clone(model)
    for graph in graphs(form):
        constants = graph.initializers.values() if isinstance(graph, Graph) else ()
        computed = (value for node in graph for value in node.outputs)
        for item in (*graph.inputs, *constants, *computed, *graph):
            clear_annotations(item)
    return form


def simulated_form(model: Model, *, strong: bool) -> Model:
    """A copy that ONNX Runtime computes as the device would, rounding where it has no kernels of a type."""
    if not strong:
        return weak_form(model)
    form = respelt_copy(model)
    types = {float_type(node) for graph in graphs(form) for node in graph}
    lower_qdq(form)
    lower_float_types(form, simulate=bool(types & set(UNKNOWN_TO_ONNX_RUNTIME)))
    return form
