"""The part of a model that runs without its opaque operators.

    operands   what an opaque node reads becomes an output: it is computed as before
    results    of a known type and shape they become inputs, for numbers that are made up; else, and where nobody wants
               made-up numbers, whatever depends on them is left out

On made-up numbers two models can be compared, and nothing can be learned about the numbers of the real one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from graphpress.data import Feed
from graphpress.data.free_sizes import candidate_shapes
from graphpress.data.inputs import ModelInput, shapes_of
from graphpress.data.synthetic import random_array
from graphpress.ir import Editor, Model, Node, Shape, Value, clone, label
from graphpress.ir.opaque import inner_opaque, is_declared, opacity_of, opaque_nodes, operands_of
from graphpress.ir.values import reads, symbolic_dims

NOTHING = "nothing that can be computed here"
"""The output of a model all of whose outputs, and all that its opaque operators read, depend on opaque operators."""


@dataclass(frozen=True)
class StandIns:
    """Numbers for what opaque nodes compute: the same for the same sizes.

    Args:
        names: of the values, inputs of the part that runs.
    """

    names: frozenset[str] = frozenset()

    def complete(self, feed: Feed, inputs: Sequence[ModelInput]) -> Feed:
        """The feed with the numbers that it lacks.

        Args:
            feed: for the inputs of the whole model.
            inputs: all of those of the part.
        """
        if not self.names:
            return feed
        shapes = next(candidate_shapes(inputs, shapes_of(feed)))
        lacking = (item for item in inputs if item.name in self.names)
        return {**feed, **{item.name: _numbers(item, shapes[item.name]) for item in lacking}}


def _numbers(item: ModelInput, shape: tuple[int, ...]) -> np.ndarray:
    return random_array(shape, item.dtype, np.random.default_rng(crc32(item.name.encode())))


def runnable_part(model: Model, *, made_up: bool) -> tuple[Model, StandIns]:
    """What runs of a model, as a copy; the model itself where it has no opaque nodes.

    Args:
        model: not changed.
        made_up: whether numbers may be made up for what opaque nodes compute.
    """
    opaque = opaque_nodes(model)
    if not opaque:
        return model, StandIns()
    cut = _Cut(clone(model), made_up)
    cut.run()
    return cut.model, StandIns(frozenset(cut.stand_ins))


class _Cut:
    """Takes the opaque nodes out of a model, and all that is not known without them."""

    def __init__(self, model: Model, made_up: bool) -> None:
        self.model, self._made_up = model, made_up
        self.stand_ins: dict[str, Value] = {}
        self._edit = Editor(model)
        self._unknown = set[Value]()
        self._outputs: list[Value] = []

    def run(self) -> None:
        """Do it."""
        graph, opaque, dropped = self.model.graph, set(opaque_nodes(self.model)), list[Node]()
        for node in list(graph):
            if node in opaque:
                self._watch(node)
            if node in opaque and not self._replace_inside(node):
                self._replace(node)
            elif self._unknown.isdisjoint(reads(node)):
                continue
            else:
                self._unknown.update(node.outputs)
            dropped.append(node)
        known = [value for value in graph.outputs if value not in self._unknown]
        watched = sorted(self._outputs, key=lambda value: value.name or "")
        graph.outputs[:] = [*known, *watched] or [self._nothing(dropped[0])]
        graph.inputs.extend(self.stand_ins.values())
        graph.remove(dropped)

    def _nothing(self, place: Node) -> Value:
        """An output for a model of which no other is left: ONNX Runtime takes none without."""
        (value,) = self._edit.add_node("Constant", [], {"value_int": 0}, before=place, name=NOTHING).outputs
        value.name = NOTHING
        return value

    def _watch(self, node: Node) -> None:
        """Let its operands be outputs, under the names that are remembered for them."""
        names = opacity_of(self.model).operands
        for index, value in operands_of(node):
            name = names.get((label(node), index))
            if name is not None and value not in self._unknown:
                (copy,) = self._edit.add_node("Identity", [value], before=node, name=name).outputs
                copy.name = name
                self._outputs.append(copy)

    def _replace(self, node: Node) -> None:
        """Make its results up, as far as these can be; the others are unknown."""
        outputs = self.model.graph.outputs
        unknown = [result for result in node.outputs if not (self._made_up and is_declared(result))]
        outputs[:] = [value for value in outputs if value not in unknown]
        self._unknown.update(unknown)
        self._make_up(node)

    def _replace_inside(self, node: Node) -> bool:
        """Make results up inside of the graphs that the node holds; whether that is all it takes."""
        if not self._made_up or label(node) not in opacity_of(self.model).opened:
            return False
        for inner in inner_opaque(node, self.model):
            self._make_up(inner)
            self._edit.remove(inner)
        return True

    def _make_up(self, node: Node) -> None:
        """Let inputs stand for its results that are not unknown: called after the node, which no rewrite renames."""
        for index, result in enumerate(node.outputs):
            if result in self._unknown:
                continue
            name = self._edit.fresh_name(f"{label(node)} {index} made up")
            self.stand_ins[name] = Value(name=name, type=result.type, shape=self._shape(result))
            (copy,) = self._edit.add_node("Identity", [self.stand_ins[name]], before=node).outputs
            self._edit.replace(result, copy)

    def _shape(self, value: Value) -> Shape:
        """The declared shape; a nameless first axis is as long as those of the inputs."""
        dims, firsts = list(symbolic_dims(value) or ()), [symbolic_dims(item) for item in self.model.graph.inputs]
        if dims and dims[0] is None:
            dims[0] = next((first[0] for first in firsts if first), None)
        return Shape(dims)
