"""From a graph to steps: every node once, in order, with what is known before the model runs looked at ahead.

Nodes whose operands are all known are computed here, once. An operand that is read in an encoding is the result of a
step of its own, which all its readers in that encoding share. A subgraph becomes the body of its node: it takes its
own inputs, and what it reads from outside as further operands of the node. So does the body of a function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphpress import ops
from graphpress.errors import reraise_resource_fault
from graphpress.ir import (
    Attr,
    AttributeType,
    Function,
    Graph,
    Model,
    Node,
    NodeView,
    Value,
    constant,
    input_of,
    is_constant,
    label,
)
from graphpress.ir.encoding import Encoding, codes_of, decode_array, encode_array, output_encoding, read_encoding
from graphpress.ops.semantics import InvalidAttributeError
from graphpress.torch_bridge.context import Body, Kernel, TranslationContext, UntranslatableError
from graphpress.torch_bridge.errors import BridgeError
from graphpress.torch_bridge.fake_quantize import as_affine, fixed_grid, following_grid, leader_of
from graphpress.torch_bridge.ops import TRANSLATIONS
from graphpress.torch_bridge.program import ABSENT, Instruction, execute, with_frees
from graphpress.torch_bridge.tensors import to_array, to_tensor

MAX_FOLDED = 1 << 20
"""Elements of the largest result that is computed ahead."""

MAX_NAMED = 20
"""Nodes that one error names."""

Key = tuple[Value, Encoding | None]
"""A value as it is read: plain, or in an encoding."""


@dataclass(frozen=True)
class Translated:
    """A main graph as steps.

    Args:
        steps: what to run.
        size: how many slots there are.
        inputs: slot by name of graph input.
        constants: slot of each constant, and what it holds: a value that trains, or an array.
        outputs: slot by name of graph output and of tap.
    """

    steps: tuple[Instruction, ...]
    size: int
    inputs: Mapping[str, int]
    constants: Mapping[int, Value | np.ndarray]
    outputs: Mapping[str, int]


def translate(model: Model, taps: Sequence[str], trains: Callable[[Value], bool]) -> Translated:
    """Translate the main graph of a model.

    Raises:
        BridgeError: nodes that have no translation, all of them in one message; a tap that is no value of the graph.
    """
    everything = _Shared(model, trains)
    scope = _Scope(everything, None)
    inputs = {value.name or "": scope.define(value) for value in model.graph.inputs}
    scope.walk(model.graph)
    everything.raise_untranslatable()
    outputs = {value.name or "": scope.slot(value, _read_outside(value)) for value in model.graph.outputs}
    outputs |= {name: scope.slot(value, None) for name, value in _tapped(model, taps).items() if name not in outputs}
    steps = with_frees(scope.steps, frozenset((*scope.constants, *outputs.values())))
    return Translated(steps, scope.size, inputs, scope.constants, outputs)


def _tapped(model: Model, taps: Sequence[str]) -> dict[str, Value]:
    graph, wanted = model.graph, set(taps)
    values = (*graph.inputs, *graph.initializers.values(), *(output for node in graph for output in node.outputs))
    values_by_name = {value.name or "": value for value in values if value.name in wanted}
    if missing := sorted(wanted - values_by_name.keys()):
        raise BridgeError(
            f"the model has no value {missing[0]!r}",
            where="taps",
            fix="name a value of the main graph (optimize inspect)",
        )
    return {name: values_by_name[name] for name in taps}


def _read_outside(value: Value) -> Encoding | None:
    return None if value.is_graph_input() else output_encoding(value)


@dataclass
class _Shared:
    """What the scopes of one model have in common."""

    model: Model
    trains: Callable[[Value], bool]
    fixed: dict[Value, np.ndarray] = field(default_factory=dict)
    untranslatable: list[str] = field(default_factory=list)

    def array(self, value: Value) -> np.ndarray | None:
        """The contents of a value that is known ahead and does not train."""
        if value in self.fixed:
            return self.fixed[value]
        return constant(value) if is_constant(value) and not self.trains(value) else None

    def raise_untranslatable(self) -> None:
        """One error for all nodes that cannot be translated."""
        nodes = self.untranslatable
        if not nodes:
            return
        rest = f" and {len(nodes) - MAX_NAMED} more" if len(nodes) > MAX_NAMED else ""
        raise BridgeError(
            f"{len(nodes)} nodes cannot be carried into PyTorch: {'; '.join(nodes[:MAX_NAMED])}{rest}",
            where=self.model.graph.name or "model",
            fix="recover without training, or leave training passes out",
        )


class _Scope:
    """The slots of one graph: the main graph, a subgraph or the body of a function."""

    def __init__(self, shared: _Shared, parent: _Scope | None, attributes: Mapping[str, Attr] | None = None) -> None:
        self.steps: list[Instruction] = []
        self.constants: dict[int, Value | np.ndarray] = {}
        self.captured: dict[int, int] = {}
        self.size = ABSENT + 1
        self._shared, self._parent, self._attributes = shared, parent, attributes or {}
        self._slots: dict[Key, int] = {}

    def define(self, value: Value) -> int:
        """A new slot that holds this value."""
        self._slots[value, None] = slot = self._new()
        return slot

    def slot(self, value: Value, encoding: Encoding | None, reader: Node | None = None) -> int:
        """The slot of a value as it is read: where it is, captured from outside, or fake-quantized by a new step."""
        if (value, encoding) not in self._slots:
            self._slots[value, encoding] = (
                self._plain(value) if encoding is None else self._encoded(value, encoding, reader)
            )
        return self._slots[value, encoding]

    def walk(self, graph: Graph | Function) -> None:
        """Translate every node, in order."""
        for node in graph:
            if not is_constant(node.outputs[0] if node.outputs else None):
                self._translate(node)

    # -- values -------------------------------------------------------------------------------------------

    def _new(self) -> int:
        self.size += 1
        return self.size - 1

    def _plain(self, value: Value) -> int:
        if self._parent is not None:
            return self._capture(self._parent.slot(value, None))
        array = self._shared.array(value)
        if array is None and not is_constant(value):
            raise BridgeError(
                f"{value.name!r} is read before it is computed", where="graph", fix="sort the graph's nodes"
            )
        slot = self._new()
        self.constants[slot] = value if array is None else array
        return slot

    def _capture(self, outside: int) -> int:
        if outside not in self.captured:
            self.captured[outside] = self._new()
        return self.captured[outside]

    def _encoded(self, value: Value, encoding: Encoding, reader: Node | None) -> int:
        array = self._shared.array(value)
        if array is not None:
            return self._decoded(value, encoding, array)
        reads: tuple[int, ...] = (self.slot(value, None),)
        affine = as_affine(encoding, value)
        kernel = fixed_grid(affine)
        if is_constant(value):
            leader = leader_of(value, affine, reader)
            if leader is not None and self._shared.array(leader[0]) is None:
                start = constant(leader[0])
                assert start is not None
                reads = (*reads, self.slot(leader[0], None))
                kernel = following_grid(affine, leader[1], start)
        slot = self._new()
        self.steps.append(Instruction(kernel, reads, (slot,), label(value)))
        return slot

    def _decoded(self, value: Value, encoding: Encoding, array: np.ndarray) -> int:
        if self._parent is not None:
            return self._capture(self._parent.slot(value, encoding))
        slot = self._new()
        self.constants[slot] = decode_array(_codes(value, encoding, array), encoding, array.dtype)
        return slot

    # -- nodes --------------------------------------------------------------------------------------------

    def _translate(self, node: Node) -> None:
        written = [value for value in node.outputs if value.name]
        try:
            kernel, fixed, captured = self._kernel(node)
        except (InvalidAttributeError, UntranslatableError) as error:
            self._shared.untranslatable.append(f"{label(node)} ({node.op_type}: {error})")
            for value in written:
                self.define(value)
            return
        if fixed is not None and self._fold(node, kernel, fixed):
            return
        reads = [
            ABSENT if value is None else self.slot(value, read_encoding(node, index), node)
            for index, value in enumerate(node.inputs)
        ]
        writes = tuple(self.define(value) if value.name else ABSENT for value in node.outputs)
        self.steps.append(Instruction(kernel, (*reads, *captured), writes or (ABSENT,), label(node)))

    def _kernel(self, node: Node) -> tuple[Kernel, list[np.ndarray | None] | None, tuple[int, ...]]:
        """The node's kernel; its operands where all are known ahead; the slots that its subgraphs read."""
        fixed = tuple(self._fixed(node, index) for index in range(len(node.inputs)))
        attributes = self._resolve(node)
        function = self._shared.model.functions.get(node.op_identifier())
        if function is not None:
            inner = _Scope(self._shared, self, {**function.attributes, **attributes})
            body, captured = self._body(inner, function)
            given = len(node.inputs)
            return _calling(body, given), None, captured
        translation = TRANSLATIONS.lookup(node.op_type, node.domain)
        if translation is None:
            raise UntranslatableError("no translation")
        bodies, captured = self._bodies(node)
        view = NodeView.of(node, attributes=attributes, contents=lambda _, index: _at(fixed, index))
        kernel = translation(TranslationContext(view, bodies))
        known = all(array is not None or value is None for array, value in zip(fixed, node.inputs, strict=True))
        return kernel, list(fixed) if known and node.inputs and not bodies else None, captured

    def _fixed(self, node: Node, index: int) -> np.ndarray | None:
        value = input_of(node, index)
        return None if value is None or read_encoding(node, index) is not None else self._shared.array(value)

    def _resolve(self, node: Node) -> dict[str, Attr]:
        """The node's attributes, those that refer to the caller of the function looked up there."""
        resolved = {}
        for name, attribute in node.attributes.items():
            if not attribute.is_ref():
                resolved[name] = attribute
            elif (given := self._attributes.get(attribute.ref_attr_name or "")) is not None and given.value is not None:
                resolved[name] = given
        return resolved

    def _fold(self, node: Node, kernel: Kernel, fixed: Sequence[np.ndarray | None]) -> bool:
        """Compute the node now, if it gives the same every time, works, and its result is small."""
        spec = ops.lookup(node.op_type, node.domain)
        depends_on_caller = any(attribute.is_ref() for attribute in node.attributes.values())
        if spec is None or not spec.foldable or depends_on_caller:
            return False
        try:
            with torch.no_grad():
                result = kernel(*[None if array is None else to_tensor(array) for array in fixed])
        except Exception as error:  # it fails again at run time, where it is reported
            reraise_resource_fault(error)
            return False
        results = result if isinstance(result, tuple) else (result,)
        tensors = [tensor for tensor in results if isinstance(tensor, Tensor)]
        if len(tensors) != len(results) or sum(tensor.numel() for tensor in tensors) > MAX_FOLDED:
            return False
        for value, tensor in zip(node.outputs, tensors, strict=False):
            self._shared.fixed[value] = to_array(tensor)
        return True

    def _bodies(self, node: Node) -> tuple[dict[str, Body], tuple[int, ...]]:
        """The node's subgraphs as bodies that all take the same captured values."""
        scopes = {
            name: (_Scope(self._shared, self, self._attributes), attribute.as_graph())
            for name, attribute in node.attributes.items()
            if attribute.type == AttributeType.GRAPH and not attribute.is_ref()
        }
        programs = {name: _program(scope, graph) for name, (scope, graph) in scopes.items()}
        captured = tuple(dict.fromkeys(slot for scope, _ in scopes.values() for slot in scope.captured))
        place = {slot: index for index, slot in enumerate(captured)}
        bodies = {
            name: _bound(program, [place[slot] for slot in scopes[name][0].captured])
            for name, program in programs.items()
        }
        return bodies, captured

    def _body(self, inner: _Scope, function: Function) -> tuple[Body, tuple[int, ...]]:
        program = _program(inner, function)
        return _bound(program, list(range(len(inner.captured)))), tuple(inner.captured)


def _at(arrays: Sequence[np.ndarray | None], index: int) -> np.ndarray | None:
    return arrays[index] if index < len(arrays) else None


def _codes(value: Value, encoding: Encoding, array: np.ndarray) -> np.ndarray:
    """The codes of a constant, its own where it is held as codes."""
    tensor = value.const_value
    if tensor is not None and tuple(tensor.shape) == array.shape:
        return codes_of(tensor, encoding)
    return encode_array(array, encoding)


Program = Callable[[Sequence[Any], Sequence[Any]], list[Any]]


def _program(scope: _Scope, graph: Graph | Function) -> Program:
    """A graph that runs on its inputs and on what it captures, in the order of ``scope.captured``."""
    inputs = [scope.define(value) for value in graph.inputs]
    scope.walk(graph)
    outputs = [scope.slot(value, _read_outside(value)) for value in graph.outputs]
    steps = with_frees(scope.steps, frozenset((*outputs, *scope.captured.values())))
    inside, size = list(scope.captured.values()), scope.size

    def run(given: Sequence[Any], captured: Sequence[Any]) -> list[Any]:
        slots: list[Any] = [None] * size
        for slot, item in zip(inputs, given, strict=False):
            slots[slot] = item
        for slot, item in zip(inside, captured, strict=True):
            slots[slot] = item
        execute(steps, slots)
        return [slots[slot] for slot in outputs]

    return run


def _bound(program: Program, places: Sequence[int]) -> Body:
    """The program with its captured values picked from those of the whole node."""
    return lambda given, captured: program(given, [captured[place] for place in places])


def _calling(body: Body, given: int) -> Kernel:
    """A kernel that calls a function."""

    def kernel(*operands: Any) -> Any:
        return tuple(body(operands[:given], operands[given:]))

    return kernel
