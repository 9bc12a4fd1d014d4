"""The forms of a model that TensorRT takes, each spelt from the same annotations.

    strong     every type stands in the model: float16 tensors, Q/DQ with scales of the same type. TensorRT 10 and
               later build exactly that.
    weak       float32 with Q/DQ; flags allow the rest to run in float16. All that TensorRT 8 understands.
    implicit   plain float32; ranges come from a calibration cache. What the deep learning accelerator wants.

Whatever came as Q/DQ nodes stands in encodings first, and encodings in TensorRT's words (``pinned``): unsigned integers
around their middle become signed ones around 0, a bias in int32 becomes float.

The Q/DQ forms share one grid: scales are numbers that float16 holds exactly. Those that a model brings along may be
others. Their Q/DQ nodes keep float32 in the strong form too, with casts around them, so that no grid moves; TensorRT
fuses them all the same.
"""

from __future__ import annotations

from graphpress.backends.tensorrt.pinned import respell
from graphpress.ir import Graph, Model, clone, graphs, lower_float_types
from graphpress.ir.encoding import clear_annotations, float_type, set_float_type
from graphpress.ir.qdq import lower_qdq, raise_qdq

LACKED_BY_ONNX_RUNTIME = frozenset({"bfloat16"})
"""Float types in which it has no kernels on a processor."""


def respelt_copy(model: Model) -> Model:
    """A copy with its quantisation in encodings, Q/DQ nodes as far as they can be, and those in TensorRT's words."""
    return _respelt(model)[0]


def is_respelt(model: Model) -> bool:
    """Whether the Q/DQ forms say something of the model in other words than it does itself."""
    return _respelt(model)[1] > 0


def _respelt(model: Model) -> tuple[Model, int]:
    """The copy, and how many of its encodings had other words before."""
    copy = clone(model)
    raise_qdq(copy)
    return copy, respell(copy)


def strong_form(model: Model) -> Model:
    """A copy with every type written out."""
    return _typed_form(model, simulated_types=frozenset())


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
    form = respelt_copy(model)
    for graph in graphs(form):
        constants = graph.initializers.values() if isinstance(graph, Graph) else ()
        computed = (value for node in graph for value in node.outputs)
        for item in (*graph.inputs, *constants, *computed, *graph):
            clear_annotations(item)
    return form


def simulated_form(model: Model, *, strong: bool) -> Model:
    """A copy that ONNX Runtime computes as the device would: the delivered form wherever it has kernels for it.

    In types that it lacks on a processor each value is rounded, and sums are taken in float32. Not so in float16: ONNX
    Runtime fuses Q/DQ into integer kernels as TensorRT does, where rounding every dequantised value would be harsher
    than either.
    """
    if not strong:
        return weak_form(model)
    return _typed_form(model, simulated_types=LACKED_BY_ONNX_RUNTIME)


def _typed_form(model: Model, simulated_types: frozenset[str]) -> Model:
    """A copy with every type written out, by roundings alone where one of ``simulated_types`` is among them."""
    form = respelt_copy(model)
    types = {float_type(node) for graph in graphs(form) for node in graph}
    lower_qdq(form)
    lower_float_types(form, simulate=bool(types & simulated_types))
    return form
