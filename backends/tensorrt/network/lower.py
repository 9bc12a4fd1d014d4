"""From the graph straight to TensorRT's network, without the ONNX parser.

Nodes are lowered in order by the rules of their operators. Inputs and outputs keep their public names, types and the
names of open dimensions; layers carry the names of their nodes. Nothing is approximated and no type is changed: a node
that TensorRT's layers cannot express is an error that names it.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphpress.backends.tensorrt.network.context import LoweringContext, Result, name_of
from graphpress.backends.tensorrt.network.fold import evaluate
from graphpress.backends.tensorrt.network.scope import Construction, Scope
from graphpress.backends.tensorrt.network.table import RULES, WITHOUT_RULE
from graphpress.backends.tensorrt.network.types import onnx_type, tensorrt_type
from graphpress.errors import ModelError
from graphpress.ir import AxisError, Graph, Model, Node, TensorType, Value, is_standard
from graphpress.ops.semantics import InvalidAttributeError


def lower_network(model: Model, trt: Any, network: Any, *, strong: bool = True) -> None:
    """Fill an empty network with the layers of a model.

    The network keeps the arrays of the model's constants alive for as long as the Python object ``network`` lives.

    Args:
        model: the model, with every type written out; constants must not change until the engine is built.
        trt: the module ``tensorrt`` or ``tensorrt_rtx``.
        network: an empty ``INetworkDefinition``.
        strong: whether the network is strongly typed.

    Raises:
        ModelError: an operator has no rule, or a node reads what TensorRT's layers do not take.
    """
    place = Construction(trt, network, strong, _lower_nodes)
    weakref.finalize(network, place.held.clear)
    scope = Scope(place)
    for value in model.graph.inputs:
        scope.bind(value, _input(value, place))
    _lower_nodes(model.graph, scope)
    for value in model.graph.outputs:
        _mark(value, scope)


def _input(value: Value, place: Construction) -> Any:
    where = f"input {value.name!r}"
    if not isinstance(value.type, TensorType):
        raise ModelError("is no tensor", where=where, fix="export the model without sequences and optional inputs")
    if value.shape is None:
        raise ModelError("its rank is unknown", where=where, fix="infer shapes, or declare them")
    dims = [dim if isinstance(dim, int) else -1 for dim in value.shape]
    tensor = place.network.add_input(value.name, tensorrt_type(place.trt, value.type.dtype, where), dims)
    if tensor is None:
        raise ModelError("TensorRT refuses this input", where=where, fix="rename it, or change its type")
    for axis, dim in enumerate(value.shape):
        if not isinstance(dim, int) and dim.value:
            tensor.set_dimension_name(axis, str(dim.value))
    place.names.add(value.name or "")
    return tensor


def _mark(value: Value, scope: Scope) -> None:
    """Make a value public under its own name, with the type that the graph declares."""
    place = scope.place
    if value.is_graph_input():
        raise ModelError("is an input too", where=f"output {value.name!r}", fix="read the input instead")
    tensor = scope.tensor(value)
    if tensor.name != value.name or tensor.is_network_output:
        tensor = place.layers(f"{value.name} (output)").out("identity", tensor)
        tensor.name = value.name
    place.network.mark_output(tensor)
    if value.dtype is not None and tensor.dtype != (wanted := tensorrt_type(place.trt, value.dtype, value.name or "")):
        if place.strong:
            raise ModelError(
                f"is {onnx_type(tensor.dtype).name.lower()} and declared {value.dtype.name.lower()}",
                where=f"output {value.name!r}",
                fix="correct the declared type",
            )
        tensor.dtype = wanted


def _lower_nodes(graph: Graph, scope: Scope) -> None:
    for node in graph:
        results = _fold(node, scope) or _lower(node, scope)
        for value, result in zip(node.outputs, results, strict=False):
            if not isinstance(result, np.ndarray):
                _check(node, value, result)
                _name(value, result, scope.place)
            scope.bind(value, result)


def _lower(node: Node, scope: Scope) -> Sequence[Result]:
    ctx = LoweringContext(node, scope)
    rule = RULES.lookup(node.op_type) if is_standard(node) else None
    if rule is None:
        reason = WITHOUT_RULE.get(node.op_type, "it has no rule") if is_standard(node) else "it is no standard operator"
        raise ctx.refuse(f"{node.op_type} cannot be lowered: {reason}", "take the route through TensorRT's parser")
    try:
        result = rule(ctx)
    except InvalidAttributeError as error:
        raise ctx.refuse(str(error)) from error
    except AxisError as error:
        raise ctx.refuse(str(error), "correct the axis") from error
    except RuntimeError as error:  # a rule read the shape of a tensor that is impossible
        raise ctx.refuse(f"TensorRT does not take what it reads ({str(error).splitlines()[0]})") from error
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:  # operands that the standard does not allow
        raise ctx.refuse(
            f"its operands and attributes do not fit together ({error})",
            "check the model with onnx.checker.check_model(model, full_check=True)",
        ) from error
    results = list(result) if isinstance(result, (list, tuple)) else [result]
    if missing := [value.name for value in node.outputs[len(results) :] if value.uses() or value.is_graph_output()]:
        raise ctx.refuse(f"TensorRT's layers do not give its output {missing[0]!r}")
    return results


def _fold(node: Node, scope: Scope) -> list[np.ndarray] | None:
    """The results of a small node whose operands are all known: shape arithmetic, mostly."""
    if not is_standard(node):
        return None
    arrays: list[np.ndarray | None] = []
    for value in node.inputs:
        arrays.append(None if value is None else scope.array(value))
        if value is not None and arrays[-1] is None:
            return None
    return evaluate(node, arrays)


def _check(node: Node, value: Value, tensor: Any) -> None:
    """TensorRT infers a shape when it is read, and finds the faults of a layer then."""
    try:
        tuple(tensor.shape)
    except (RuntimeError, ValueError) as error:
        raise ModelError(
            f"TensorRT finds no shape for {value.name!r}: it does not take these operands",
            where=f"node {name_of(node)!r}",
            fix="see the messages of TensorRT's logger",
        ) from error


def _name(value: Value, tensor: Any, place: Construction) -> None:
    """Give the tensor the value's name, unless it bears one already or the name is taken."""
    if value.name and value.name not in place.names and tensor.name not in place.names:
        tensor.name = value.name
        place.names.add(value.name)
