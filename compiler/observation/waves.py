"""In which order the layers of a network can be worked on, and what is known of the network in between.

Layers are the nodes that are changed one after the other. Wave w holds the layers with w others on the longest way
from the graph's inputs: those of one wave don't depend on one another and are worked on together. A value's level is
the number of waves that have to be done before it is final: 0 where no layer comes before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from graphpress.ir import Graph, Node, Value, present_outputs
from graphpress.ir.values import reads


def waves_of(graph: Graph, layers: Sequence[Node], behind: Mapping[Node, Value] | None = None) -> list[list[Node]]:
    """The layers by wave, each wave in graph order.

    Args:
        graph: that holds the layers.
        layers: the nodes to be worked on.
        behind: values that have to be final before a layer is worked on, although it does not read them; see
            ``can_wait``.
    """
    wanted, behind = set(layers), behind or {}
    level: dict[Value, int] = {}
    waves: dict[int, list[Node]] = {}
    for node in _ordered(graph, behind):
        before = max((level.get(value, 0) for value in _needs(node, behind)), default=0)
        if node in wanted:
            waves.setdefault(before, []).append(node)
        for value in node.outputs:
            level[value] = before + (node in wanted)
    place = {node: index for index, node in enumerate(graph)}
    return [sorted(waves[wave], key=lambda node: place[node]) for wave in sorted(waves)]


def levels_of(graph: Graph, wave_of: Mapping[str, int]) -> dict[str, int]:
    """The level of every value by name; layers are given by the name of their first result, with their wave."""
    level = {value.name or "": 0 for value in graph.inputs}
    for node in graph:
        before = max((level.get(value.name or "", 0) for value in reads(node)), default=0)
        results = present_outputs(node)
        wave = wave_of.get(results[0].name or "") if results else None
        for value in results:
            level[value.name or ""] = before if wave is None else max(before, wave + 1)
    return level


def can_wait(node: Node, value: Value, behind: Mapping[Node, Value]) -> bool:
    """Whether ``node`` can be worked on after ``value`` is final: the value does not depend on the node.

    What other nodes wait for already counts.
    """
    pending, seen = [value], {value}
    while pending:
        maker = pending.pop().producer()
        if maker is node:
            return False
        for need in _needs(maker, behind) if maker is not None else ():
            if need not in seen:
                seen.add(need)
                pending.append(need)
    return True


def _needs(node: Node, behind: Mapping[Node, Value]) -> Iterator[Value]:
    yield from reads(node)
    if node in behind:
        yield behind[node]


def _ordered(graph: Graph, behind: Mapping[Node, Value]) -> Iterator[Node]:
    """The nodes in an order that respects what they wait for (Kahn)."""
    missing: dict[Node, int] = {}
    followers: dict[Node, list[Node]] = {}
    for node in graph:
        makers = {maker for value in _needs(node, behind) if (maker := value.producer()) is not None}
        makers = {maker for maker in makers if maker.graph is node.graph}
        missing[node] = len(makers)
        for maker in makers:
            followers.setdefault(maker, []).append(node)
    ready = [node for node, count in missing.items() if not count]
    for node in ready:
        yield node
        for follower in followers.get(node, ()):
            missing[follower] -= 1
            if not missing[follower]:
                ready.append(follower)
