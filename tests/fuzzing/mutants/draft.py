"""A mutant in the making, and where in it a change may be made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

import onnx
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto

T = TypeVar("T")

HOSTILE_NAMES = (
    "", " ", "\n", "a\nb", "\x1b[2J\x1b]0;title\x07", "\u202eabc", "\x00", "../../etc/passwd", "C:\\con", "%s{}$(x)`x`",
    "<script>alert(1)</script>", "n" * 5000, "名前", "-", "--output", "graphpress.numbers/0", "graphpress.encoding.v2",
)  # fmt: skip
NUMBERS = (0, 1, -1, 2, 3, 4, 5, 7, 8, 16, 64, 255, 1000, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1, -(2**31), -(2**63))
TYPES = (0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 20, 21, 22, 23, 25, 26, 99, -1)
"""Of elements: those of ONNX, and some that are none."""


@dataclass(frozen=True)
class Link:
    """A symbolic link beside the model."""

    target: str


@dataclass
class Draft:
    """A model that mutations change.

    Args:
        model: the message.
        files: what lies beside the model file, by name.
        random: where every choice comes from.
        bytewise: changes of the written file, in order.
    """

    model: onnx.ModelProto
    files: dict[str, bytes | Link]
    random: Random
    bytewise: list[Callable[[bytes], bytes]] = field(default_factory=list)

    def pick(self, choices: Sequence[T]) -> T:
        """One of them; ``InapplicableError`` ends a mutation that has nowhere to go."""
        if not choices:
            raise InapplicableError
        return choices[self.random.randrange(len(choices))]

    def index(self, sequence: Sequence[Any]) -> int:
        """A position in it."""
        return self.pick(range(len(sequence)))

    def graphs(self) -> list[GraphProto]:
        """The graph and every subgraph, outermost first."""
        return list(graphs_of(self.model.graph))

    def graph(self) -> GraphProto:
        """Any of them."""
        return self.pick(self.graphs())

    def owners(self) -> list[Any]:
        """Whatever holds nodes: graphs and functions."""
        bodies = [graph for function in self.model.functions for node in function.node for graph in _inner(node)]
        return [*self.graphs(), *self.model.functions, *(inner for body in bodies for inner in graphs_of(body))]

    def owner(self) -> Any:
        """A graph or function that has nodes."""
        return self.pick([owner for owner in self.owners() if owner.node])

    def node(self) -> NodeProto:
        """A node of a graph or function; any node is as likely as any other."""
        return self.pick([node for owner in self.owners() for node in owner.node])

    def attribute(self) -> AttributeProto:
        """An attribute of a node."""
        return self.pick([item for owner in self.owners() for node in owner.node for item in node.attribute])

    def initializer(self) -> tuple[GraphProto, int]:
        """A graph, and the position of one of its initializers."""
        graph = self.pick([graph for graph in self.graphs() if graph.initializer])
        return graph, self.index(graph.initializer)

    def tensor(self) -> TensorProto:
        """An initializer or the tensor of an attribute."""
        held = [
            item.t for owner in self.owners() for node in owner.node for item in node.attribute if item.HasField("t")
        ]
        return self.pick([*(tensor for graph in self.graphs() for tensor in graph.initializer), *held])

    def info(self) -> ValueInfoProto:
        """A declared input, output or inner value."""
        return self.pick([info for graph in self.graphs() for info in (*graph.input, *graph.output, *graph.value_info)])

    def values(self) -> list[str]:
        """Names of all values."""
        results = [name for owner in self.owners() for node in owner.node for name in node.output if name]
        given = [item.name for graph in self.graphs() for item in (*graph.input, *graph.initializer)]
        return [*results, *given]

    def name(self) -> str:
        """A name that is in use, a new one, or one that is hard to print."""
        kind = self.random.random()
        return self.pick(self.values()) if kind < 0.5 else "fresh" if kind < 0.6 else self.pick(HOSTILE_NAMES)

    def number(self) -> int:
        """A number at some edge; small ones are as likely as all others together."""
        return self.pick(NUMBERS[:8] if self.random.random() < 0.5 else NUMBERS)


class InapplicableError(Exception):
    """The model has nothing that this mutation changes."""


Mutation = Callable[[Draft], str]
"""Changes the draft and says how, for a person; raises ``InapplicableError``."""


def graphs_of(graph: GraphProto) -> Iterator[GraphProto]:
    """The graph and every subgraph, outermost first."""
    yield graph
    for node in graph.node:
        for inner in _inner(node):
            yield from graphs_of(inner)


def _inner(node: NodeProto) -> Iterator[GraphProto]:
    for item in node.attribute:
        if item.HasField("g"):
            yield item.g
        yield from item.graphs
