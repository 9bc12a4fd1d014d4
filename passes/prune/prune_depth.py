"""Remove whole residual blocks: y = x + f(x) becomes y = x.

An addition is a candidate when one operand x is an ancestor of the other and x has the shape of the sum. The block is
every node on a path from x to the sum: what depends on x and is an ancestor of the other operand. What the block reads
besides (a mask, the memory of an encoder) does not matter. The candidates of a ResNet are its blocks without a
projection, those of a transformer its attention and MLP halves, one by one.

Harm is measured: each block's branch is multiplied by a gate, one model with all gates is run on a few samples, and a
closed gate shows what the outputs are without the block:

    harm(removed) = mean over outputs of ‖y(removed) − y‖ / ‖y‖

(of outputs that are all integers, such as classes: the root of the fraction that differs).
The least harmful block goes first; the others are then scored anew with its gate closed (greedy; compare Veit et al.,
arXiv 1605.06431, on how residual networks bear the loss of blocks). Without data the samples are random, with a note.

Refuses a block of which something is read outside, or which holds an excluded node or a graph of its own. A sum whose
shape is not that of x, or is not known, is no candidate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphpress.analysis.shapes import concrete_shapes
from graphpress.data import Feed
from graphpress.data.inputs import is_floating
from graphpress.errors import UsageError
from graphpress.evaluation.outputs import compared
from graphpress.ir import (
    DataType,
    Dims,
    Editor,
    Model,
    Node,
    Refusal,
    Shape,
    TensorType,
    Value,
    clone,
    dims_of,
    is_constant,
    is_standard,
    label,
    readers,
    subgraphs_of,
)
from graphpress.manager.contract import Context, Outcome, Pass
from graphpress.passes._probe import probe_feed
from graphpress.passes.prune.criteria._data import no_samples, some_samples
from graphpress.runtime import Session

_OTHER_BATCH = 2
"""Shapes have to agree at this batch size too, so that no broadcast hides behind a batch of one."""
_UNDEFINED = "whichever block is left out next, the outputs are no finite numbers"


@dataclass(frozen=True)
class PruneDepth(Pass):
    """Whole residual blocks go, the least harmful first.

    Args:
        blocks: how many.
        ratio: in place of a number, the fraction of the blocks that can go.
        samples: of the calibration data on which the harm is measured.
        recover: let `reconstruct` follow, which fits what is left by least squares, unless the recipe names a recovery.
    """

    name: ClassVar[str] = "prune_depth"
    lossless: ClassVar[bool] = False

    blocks: int = 1
    ratio: float | None = None
    samples: int = 32
    recover: bool = True

    @property
    def followed_by(self) -> tuple[str, ...]:
        """Least squares."""
        return ("reconstruct",) if self.recover else ()

    def __post_init__(self) -> None:
        if self.blocks < 1 or self.samples < 1:
            raise UsageError("blocks and samples must be 1 or more", where=self.name, fix="give larger numbers")
        if self.ratio is not None and not 0 < self.ratio < 1:
            raise UsageError(f"ratio={self.ratio:g} is out of range", where=self.name, fix="0.25 removes a quarter")

    def run(self, model: Model, context: Context) -> Outcome:
        """Find the blocks, measure, remove."""
        candidates, refusals = residual_blocks(model, context)
        wanted = self.blocks if self.ratio is None else max(1, round(self.ratio * len(candidates)))
        if wanted > len(candidates):
            why = (
                f"{wanted} residual blocks are to go, {len(candidates)} can"
                if candidates
                else "no residual block can go"
            )
            return Outcome(0, [*refusals, Refusal(self.name, why, "ask for fewer, or prune channels")])
        scorer = _Scorer(model, candidates, _samples(model, context, self.samples), context.threads)
        notes = [] if context.calibration is not None else ["no data: harm was measured on random inputs"]
        left, gone = list(range(len(candidates))), list[int]()
        for _ in context.progress.track(range(wanted), "removing blocks"):
            if not left:
                break
            harms = [scorer.harm([*gone, number]) for number in left]
            if not np.isfinite(min(harms)):
                refusals.append(Refusal(self.name, _UNDEFINED, "look for NaN and infinity in the weights and the data"))
                break
            best = left[int(np.argmin(harms))]
            gone.append(best)
            removed = f"{label(candidates[best].add)} with the {len(candidates[best].nodes)} nodes of its branch"
            notes.append(f"{removed}: the outputs have changed by {min(harms):.1%}")
            left = [
                number for number in left if number != best and candidates[number].add not in candidates[best].nodes
            ]
        for number in gone:
            _remove(model, candidates[number])
        if len(gone) < wanted and not left:
            why = f"{wanted} residual blocks were to go; {len(gone)} took all others with them"
            refusals.append(Refusal(self.name, why, "ask for fewer, or prune channels"))
        return Outcome(len(gone), refusals, notes)


# -- finding --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Block:
    """A residual block.

    Args:
        add: the node that adds the branch to what came in.
        skip: index of the operand that came in.
        nodes: the nodes of the branch, in graph order.
    """

    add: Node
    skip: int
    nodes: tuple[Node, ...]


def residual_blocks(model: Model, context: Context) -> tuple[list[Block], list[Refusal]]:
    """The blocks of the main graph that can go, in graph order, and those that cannot, with the reason.

    Args:
        model: not changed.
        context: holds which nodes are excluded.
    """
    search = _Search(model)
    blocks, refusals = [], []
    for add in model.graph:
        if not is_standard(add, "Add", "Sum") or len(add.inputs) != 2 or None in add.inputs:
            continue
        block = search.block(add)
        if block is None:
            continue
        why = search.refusal_reason(block) or _excluded(block, context)
        if why is None:
            blocks.append(block)
        else:
            refusals.append(Refusal(label(add), f"its residual block stays: {why}", "nothing to do"))
    return blocks, refusals


class _Search:
    """Looks for blocks in one graph."""

    def __init__(self, model: Model) -> None:
        self.number = {node: index for index, node in enumerate(model.graph)}
        self.shapes = [concrete_shapes(model), concrete_shapes(model, _two_samples(model))]

    def block(self, add: Node) -> Block | None:
        """The block that ends in this addition, or None where it adds no function of an operand to that operand."""
        first, second = (value for value in add.inputs if value is not None)
        if first is second or is_constant(first) or is_constant(second):
            return None
        skip = 0 if self._position(first) < self._position(second) else 1
        came_in, branch = (first, second) if skip == 0 else (second, first)
        if any(_differ(came_in, add.outputs[0], shapes) for shapes in self.shapes):
            return None
        nodes = self._between(came_in, branch)
        return Block(add, skip, nodes) if any(_has_weights(node) for node in nodes) else None

    def refusal_reason(self, block: Block) -> str | None:
        """Why the block cannot go."""
        inside = {*block.nodes, block.add}
        came_in, result = block.add.inputs[block.skip], block.add.outputs[0]
        assert came_in is not None
        for node in block.nodes:
            for value in node.outputs:
                outside = [reader for reader in readers(value) if reader not in inside]
                if outside or value.is_graph_output():
                    return f"{label(value)} is read by {label(outside[0]) if outside else 'the caller'}"
            if any(True for _ in subgraphs_of(node)):
                return f"{label(node)} holds a graph of its own"
        if result.is_graph_output() and (came_in.is_graph_input() or came_in.is_graph_output()):
            return "nothing would be left between the public names of an input and an output"
        return None

    def _position(self, value: Value) -> int:
        node = value.producer()
        return -1 if node is None else self.number.get(node, -1)

    def _between(self, came_in: Value, branch: Value) -> tuple[Node, ...]:
        """Nodes on a path from one value to the other, in graph order; none where there is no path."""
        since = self._position(came_in)
        pending, ancestors = [branch], set[Node]()
        while pending:
            node = pending.pop().producer()
            if node is None or node in ancestors or self.number.get(node, -1) <= since:
                continue
            ancestors.add(node)
            pending += [value for value in node.inputs if value is not None]
        reached: set[Value] = {came_in}
        path = []
        for node in sorted(ancestors, key=self.number.__getitem__):
            if any(value in reached for value in node.inputs):
                reached.update(node.outputs)
                path.append(node)
        return tuple(path) if branch in reached else ()


def _differ(first: Value, second: Value, shapes: Mapping[str, Dims]) -> bool:
    """Whether two values have shapes that differ, or that are not known."""
    return shapes.get(first.name or "") is None or shapes.get(first.name or "") != shapes.get(second.name or "")


def _two_samples(model: Model) -> dict[str, Dims]:
    """Shapes of the inputs with another size on a first axis that is free."""
    shapes = concrete_shapes(model)
    two_samples = {}
    for value in model.graph.inputs:
        dims, shape = dims_of(value), shapes.get(value.name or "")
        if dims and shape and dims[0] is None:
            two_samples[value.name or ""] = (_OTHER_BATCH, *shape[1:])
    return two_samples


def _has_weights(node: Node) -> bool:
    return any(is_constant(value) and len(dims_of(value) or ()) > 1 for value in node.inputs)


def _excluded(block: Block, context: Context) -> str | None:
    named = next((node for node in (*block.nodes, block.add) if context.excluded(node)), None)
    return None if named is None else f"{label(named)} is excluded"


# -- scoring --------------------------------------------------------------------------------------------------


class _Scorer:
    """Runs the model with gates on some of its blocks closed."""

    def __init__(self, model: Model, blocks: Sequence[Block], feeds: Sequence[Feed], threads: int) -> None:
        gated, self.gates = _gated(model, blocks)
        self.session, self.feeds = Session(gated, threads=threads, optimization="basic"), feeds
        self.whole = [self._outputs(feed, ()) for feed in feeds]

    def harm(self, gone: Sequence[int]) -> float:
        """Relative change of the outputs without these blocks; infinite where they are undefined."""
        change: dict[str, float] = {}
        size: dict[str, float] = {}
        for feed, whole in zip(self.feeds, self.whole, strict=True):
            for name, array in self._outputs(feed, gone).items():
                changed, power = _squares(array, whole[name])
                change[name] = change.get(name, 0.0) + changed
                size[name] = size.get(name, 0.0) + power
        harm = np.mean([np.sqrt(change[name] / max(size[name], 1e-30)) for name in change])
        return float(harm) if np.isfinite(harm) else float("inf")

    def _outputs(self, feed: Feed, gone: Sequence[int]) -> dict[str, np.ndarray]:
        closed = set(gone)
        gates = {
            name: np.asarray(0 if number in closed else 1, dtype) for number, (name, dtype) in enumerate(self.gates)
        }
        outputs = self.session.run({**feed, **gates})
        return {name: outputs[name] for name in compared(outputs)}


def _squares(array: np.ndarray, whole: np.ndarray) -> tuple[float, float]:
    """The squared change of an output and its squared size; one of another size, as data decide, has changed all."""
    if not is_floating(whole.dtype):
        return float(np.not_equal(array, whole).sum() if array.shape == whole.shape else whole.size), float(whole.size)
    wide = whole.astype(np.float64)
    power = float(np.square(wide).sum())
    return float(np.square(array - wide).sum()) if array.shape == whole.shape else power, power


def _gated(model: Model, blocks: Sequence[Block]) -> tuple[Model, list[tuple[str, np.dtype]]]:
    """A copy with one more scalar input a block, by which its branch is multiplied."""
    copy = clone(model)
    edit, copies = Editor(copy), dict(zip(model.graph, copy.graph, strict=True))
    gates = []
    for block in blocks:
        add, index = copies[block.add], 1 - block.skip
        branch = add.inputs[index]
        assert branch is not None
        dtype = branch.dtype or block.add.outputs[0].dtype or DataType.FLOAT
        gate = Value(name=edit.fresh_name("gate"), shape=Shape([]), type=TensorType(dtype))
        copy.graph.inputs.append(gate)
        edit.set_input(add, index, edit.add_node("Mul", [branch, gate], before=add).outputs[0])
        gates.append((gate.name or "", dtype.numpy()))
    return copy, gates


def _samples(model: Model, context: Context, limit: int) -> list[Feed]:
    """So many samples of the calibration data, or one that is random."""
    if context.calibration is None:
        return [probe_feed(model, context)]
    feeds = list(some_samples(context.calibration, limit))
    if not feeds:
        raise no_samples()
    return feeds


# -- removing -------------------------------------------------------------------------------------------------


def _remove(model: Model, block: Block) -> None:
    """Let readers of the sum read what came in; drop the sum and all that nobody reads any more."""
    if block.add.graph is None:
        return  # it went with a block around it
    edit, came_in = Editor(model), block.add.inputs[block.skip]
    assert came_in is not None
    edit.replace(block.add.outputs[0], came_in)
    edit.remove(block.add)
    pending = list(reversed(block.nodes))
    while pending:
        node = pending.pop(0)
        if node.graph is None or any(value.uses() or value.is_graph_output() for value in node.outputs):
            continue
        above = [value.producer() for value in node.inputs if value is not None and not is_constant(value)]
        edit.remove(node)
        pending += [node for node in above if node is not None]
