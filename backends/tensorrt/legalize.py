"""The forms of a model that TensorRT takes, each made of one canonical form.

    strong     every type stands in the model: float16 tensors, Q/DQ with scales of the same type. TensorRT 10 and
               later build exactly that.
    weak       float32 with Q/DQ; flags allow the rest to run in float16. All that TensorRT 8 understands.
    implicit   plain float32; ranges come from a calibration cache. What the deep learning accelerator wants.

Whatever came as Q/DQ nodes stands in encodings first, and encodings in TensorRT's form (``canonicalize``): unsigned
integers around their middle become signed ones around 0, a bias in int32 becomes float, and so do integers that are
cast (``integer_constants``).

The Q/DQ forms share one grid: scales are numbers that float16 holds exactly. Those that a model brings along may be
others. Their Q/DQ nodes keep float32 in the strong form too, with casts around them, so that no grid moves; TensorRT
fuses them all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from graphpress.analysis.islands import islands
from graphpress.backends.tensorrt.canonicalize import canonicalize
from graphpress.backends.tensorrt.integer_constants import dequantize_constants
from graphpress.backends.tensorrt.lint.device import Device
from graphpress.ir import Graph, Model, Refusal, clone, graphs, materialize_float_types
from graphpress.ir.encoding import clear_annotations, float_type, set_float_type
from graphpress.ir.hand_made import spell_dequantization
from graphpress.ir.qdq import import_qdq, materialize_qdq
from graphpress.lint import type_limit
from graphpress.runtime import has_half_concats, keep_float_layers, widen_concats, write_biases_apart

USE_KEY = "use"
USE_OF_HALF_CONCATS = "for TensorRT; ONNX Runtime needs the session option session.disable_quant_qdq=1"

LACKED_BY_ONNX_RUNTIME = frozenset({"bfloat16"})
"""Float types in which it has no kernels on a processor."""


@dataclass(frozen=True)
class CanonicalForm:
    """A model with its quantization in encodings, Q/DQ nodes as far as they can be, written as TensorRT reads it.

    Args:
        model: what every other form is made of.
        changed: whether anything was written otherwise before: the Q/DQ forms are not the model that was given.
        widened: nodes that compute in float32 instead of the narrower float type that they were asked for.
    """

    model: Model
    changed: bool
    widened: tuple[Refusal, ...] = ()


def canonical_form(model: Model, device: Device | None = None) -> CanonicalForm:
    """The form of which all others are made.

    Args:
        model: as annotated, or with Q/DQ nodes. Not changed.
        device: whose limits on float types it keeps; None for none.
    """
    copy = clone(model)
    spelled = spell_dequantization(copy)
    import_qdq(copy)
    changed = spelled + canonicalize(copy) + dequantize_constants(copy) > 0
    return CanonicalForm(copy, changed, () if device is None else tuple(_widen(copy, device)))


def _widen(model: Model, device: Device) -> Iterator[Refusal]:
    """Compute in float32 where the parser takes a node in no narrower type, and where only movers are left beside."""
    for node in (node for graph in graphs(model) for node in graph):
        dtype = float_type(node)
        limit = None if dtype is None else type_limit(node, dtype, device)
        if limit is not None:
            set_float_type(node, None)
            yield Refusal.at(node, f"{device.title}'s {node.op_type} {limit.why}", limit.fix)
    for node in islands({node: None for graph in graphs(model) for node in graph if float_type(node) is not None}):
        set_float_type(node, None)
        yield Refusal.at(node, "it only moves data of nodes that compute in float32", "leave it: casts are no gain")


def strong_form(canonical: Model) -> Model:
    """A copy with every type written out; its metadata say so where ONNX Runtime needs an option for it."""
    form = _typed_form(canonical, simulate=False)
    if has_half_concats(form):
        form.metadata_props[USE_KEY] = USE_OF_HALF_CONCATS
    return form


def weak_form(canonical: Model) -> Model:
    """A copy in float32 with Q/DQ nodes."""
    form = clone(canonical)
    for graph in graphs(form):
        for node in graph:
            set_float_type(node, None)
    materialize_qdq(form)
    _guard(form)
    return form


def implicit_form(canonical: Model) -> Model:
    """A copy in plain float32: encodings are left out, what was quantized stands as it was before."""
    form = clone(canonical)
    for graph in graphs(form):
        constants = graph.initializers.values() if isinstance(graph, Graph) else ()
        computed = (value for node in graph for value in node.outputs)
        for item in (*graph.inputs, *constants, *computed, *graph):
            clear_annotations(item)
    return form


def runs_in_onnx_runtime(canonical: Model) -> bool:
    """Whether ONNX Runtime has kernels for every float type of the strong form.

    Where it has, that form itself simulates the device. In float16, too: ONNX Runtime fuses Q/DQ into
    integer kernels as TensorRT does, where rounding every dequantized value would be harsher than either.
    """
    return not LACKED_BY_ONNX_RUNTIME & {float_type(node) for graph in graphs(canonical) for node in graph}


def rounded_form(canonical: Model) -> Model:
    """A copy that computes in float32 and rounds each value to the float type that the strong form has there."""
    return _typed_form(canonical, simulate=True)


def _typed_form(canonical: Model, *, simulate: bool) -> Model:
    form = clone(canonical)
    widen_concats(form)
    materialize_qdq(form)
    materialize_float_types(form, simulate=simulate)
    _guard(form)
    return form


def _guard(form: Model) -> None:
    """Keep ONNX Runtime, in which people try the model first, from rounding what is float on the device."""
    keep_float_layers(form)
    write_biases_apart(form)
