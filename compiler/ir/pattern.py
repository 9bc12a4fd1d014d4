"""The pattern engine: match / refuse with a reason / rewrite, driven by an operator index and a worklist.

Each node at which a rule may fit is looked at once, and again only when a rewrite changed its neighborhood, so that a
rule set costs time linear in the graph plus its rewrites.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from graphpress.ir.edit import Editor
from graphpress.ir.index import OperatorIndex
from graphpress.ir.types import Graph, Model, Node, Value
from graphpress.ir.values import is_standard, label

FEW_READERS = 4
"""A value with more readers than this did not just become private to one of them: don't look at all again."""


@dataclass(frozen=True)
class Refusal:
    """Why a rewrite that looked possible was not made.

    Args:
        where: name of the node or value that prevents it.
        why: the reason, one clause.
        fix: what the user can do about it; empty when nothing.
    """

    where: str
    why: str
    fix: str = ""

    @classmethod
    def at(cls, item: Node | Value | None, why: str, fix: str = "") -> Refusal:
        """A refusal that names a node or a value."""
        return cls(label(item), why, fix)


class Match:
    """What a rule found, by the names it chose: ``Match(conv=conv, norm=norm).conv``."""

    def __init__(self, **parts: Any) -> None:
        self.__dict__.update(parts)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the match holds {sorted(self.__dict__)}, not {name!r}")


class Rule(Protocol):
    """What the engine needs of a rule: where to look, whether it fits, how to rewrite."""

    root_ops: ClassVar[tuple[str, ...]]
    """Standard operators at which to try; an empty tuple means every node."""

    def match(self, node: Node) -> Match | Refusal | None:
        """Match, a refusal with its reason, or None where there is nothing to report."""
        ...

    def rewrite(self, match: Match, edit: Editor) -> None:
        """Make the change. Only called with what ``match`` returned."""
        ...


@dataclass
class Rewrites:
    """What a run of the engine did."""

    count: int = 0
    refusals: list[Refusal] = field(default_factory=list)


def apply_rules(model: Model, rules: Sequence[Rule], index: OperatorIndex | None = None) -> Rewrites:
    """Apply the rules to every graph of the model until none fits.

    Subgraphs and function bodies are rewritten too; rules must not assume that a node's neighbors
    live in the same graph, the editor takes care of names.

    Args:
        model: changed in place.
        rules: at each node the first that fits is applied.
        index: of the model before the rewrites; made here when it is not given.
    """
    edit = Editor(model)
    done = Rewrites()
    dispatch = _Dispatch(rules)
    for indexed in (index or OperatorIndex(model)).graphs:
        worklist = indexed.nodes(dispatch.op_types)
        if worklist and indexed.is_reachable:
            _apply_to_graph(indexed.body, worklist, dispatch, edit, done)
    return done


def _apply_to_graph(body: Graph, worklist: list[Node], dispatch: _Dispatch, edit: Editor, done: Rewrites) -> None:
    waiting = deque(worklist)
    queued = set(worklist)
    refusals: dict[tuple[Node, str], Refusal] = {}
    while waiting:
        node = waiting.popleft()
        queued.discard(node)
        if node.graph is not body:
            continue
        for rule in dispatch.rules_at(node):
            outcome = rule.match(node)
            refusals.pop((node, type(rule).__name__), None)
            if isinstance(outcome, Refusal):
                refusals[node, type(rule).__name__] = outcome
            elif outcome is not None:
                for near in _rewrite(rule, outcome, node, edit):
                    if near not in queued:
                        queued.add(near)
                        waiting.append(near)
                done.count += 1
                break
    done.refusals += [refusal for (node, _), refusal in refusals.items() if node.graph is body]


def _rewrite(rule: Rule, match: Match, node: Node, edit: Editor) -> Iterable[Node]:
    """Rewrite and return the nodes worth another look: the old neighbors and what now reads their results."""
    inputs = [value for value in node.inputs if value is not None]
    readers = [use.node for output in node.outputs for use in output.uses()]
    rule.rewrite(match, edit)
    near = [node, *readers]
    for value in (*inputs, *(value for reader in readers for value in reader.inputs if value is not None)):
        producer = value.producer()
        if producer is not None:
            near.append(producer)
        if len(value.uses()) <= FEW_READERS:
            near.extend(use.node for use in value.uses())
    return [neighbor for neighbor in dict.fromkeys(near) if neighbor.graph is not None]


class _Dispatch:
    """Which rules to try at which operator."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        by_op_type: dict[str, list[Rule]] = {}
        for rule in rules:
            for op_type in rule.root_ops:
                by_op_type.setdefault(op_type, []).append(rule)
        self._by_op_type = by_op_type
        self._everywhere = [rule for rule in rules if not rule.root_ops]

    @property
    def op_types(self) -> tuple[str, ...]:
        """The operators at which some rule is tried; empty for all of them."""
        return () if self._everywhere else tuple(self._by_op_type)

    def rules_at(self, node: Node) -> Sequence[Rule]:
        """The rules to try at this node, those of its operator first."""
        anchored = self._by_op_type.get(node.op_type)
        return [*anchored, *self._everywhere] if anchored and is_standard(node) else self._everywhere
