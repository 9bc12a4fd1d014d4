"""Recurrent layers: all steps of a sequence in one direction; what they read has been multiplied by its weights.

    RNN     h = tanh(p + R h)
    GRU     z, r = σ(p + R h);  n = tanh(p + R (r ∘ h) + Rb)  or, with the reset behind,  n = tanh(p + r ∘ (R h + Rb));
            h = (1 - z) ∘ n + z ∘ h
    LSTM    i, o, f = σ(p + R h);  c = f ∘ c + i ∘ tanh(p + R h);  h = o ∘ tanh(c)

``p`` are the projections of the inputs, biases added, which a product computes for all steps at once. A step reads the
weights of all gates of a block of units together, so that they stream through the cache once, for as many sequences as
a task has: of so many as registers have sums for, each vector of weights is loaded once. The state has two places, of
which each step reads one and writes the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder, Memory
from graphpress.backends.tvm.codegen.functions import sigmoid, tanh
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.codegen.vectors import FLOAT, splat
from graphpress.backends.tvm.kernels.kernel import Pointer
from graphpress.backends.tvm.kernels.pieces import chosen, chunks, halvings, pieces
from graphpress.backends.tvm.kernels.plane import Plane, whole_vectors
from graphpress.backends.tvm.kernels.stages import Position
from graphpress.ops.semantics.recurrent import GATES

RESET = 1
"""The gate of a GRU that decides what it forgets before it looks at its input."""
CANDIDATE = 2
"""The gate of a GRU that proposes the new state."""
UNROLLED = 4
"""Units of the state whose weights are multiplied in one round."""
VECTORS = 2
"""Of units that are computed at a time for one sequence alone; several hide each other's latency."""
TOGETHER = 8
"""Sequences that have sums in registers at a time, at most."""


@dataclass(frozen=True)
class RecurrentLayer:
    """A layer.

    Args:
        operator: ``RNN``, ``GRU`` or ``LSTM``.
        backwards: for each direction, whether it reads from the end.
        units: of the state.
        source: projections ``[steps, sequences, directions · gates · whole vectors of units]``.
        initial: ``[directions, sequences, units]``, by the operand that holds it: ``hidden``, ``cell``.
        results: the same, by the operand that is written: ``every`` for each step, ``hidden_end`` and ``cell_end``.
        resets_behind: a GRU's reset gate multiplies what the state was multiplied to.
        rows: sequences of a task, which share its weights.
    """

    operator: str
    backwards: tuple[bool, ...]
    units: int
    source: Plane
    initial: tuple[tuple[str, Plane], ...]
    results: tuple[tuple[str, Plane], ...]
    resets_behind: bool = False
    rows: int = 1

    @property
    def gates(self) -> int:
        """Rows of weights for each unit."""
        return GATES[self.operator]

    @property
    def operands(self) -> Sequence[Pointer]:
        """Projections, weights, biases of the recurrence, initial states, the state, and the results."""
        fixed = [Pointer(name, FLOAT) for name in ("source", "weights", "bias")]
        others = [name for name, _ in (*self.initial, ("state", None), *self.results)]
        return [*fixed, *(Pointer(name, FLOAT) for name in others)]

    @property
    def resets_before(self) -> bool:
        """Whether a GRU's reset gate multiplies the state before its weights do."""
        return self.operator == "GRU" and not self.resets_behind

    def width(self, isa: Isa) -> int:
        """Units and what fills the last vector."""
        return whole_vectors(self.units, isa.lanes)

    def state_size(self, isa: Isa) -> int:
        """Elements of the state of one sequence in one direction: hidden twice, the cell, and a GRU's reset state."""
        return 4 * self.width(isa)

    def block(self, isa: Isa) -> int:
        """Units that are computed at a time."""
        wide = VECTORS * isa.lanes
        return wide if self.rows == 1 and self.width(isa) % wide == 0 else isa.lanes

    def together(self, isa: Isa) -> int:
        """Sequences whose sums of a block of units have registers, with an element of each and a weight beside them."""
        most = max(1, min(TOGETHER, (isa.registers - 2) // (self.gates + 1)))
        return pieces(self.rows, pieces(self.rows, most))

    def tasks(self, isa: Isa) -> int:
        """A task is some sequences in one direction."""
        return pieces(self.source.width, self.rows) * len(self.backwards)

    def task(self, b: KernelBuilder, isa: Isa, memory: dict[str, Memory], task: Expr) -> None:
        """All of their steps."""
        groups = pieces(self.source.width, self.rows)
        image, inside = b.let(task // self.tasks(isa)), b.let(task % self.tasks(isa))
        group, direction = b.let(inside % groups), b.let(inside // groups)
        for rows in chunks(self.source.width, self.rows):
            with chosen(b, group, rows, self.source.width, self.rows):
                which = image, b.let(group * self.rows), direction
                _SequencesWriter(self, b, isa, memory, which, rows.size).write()


class _Sequence(NamedTuple):
    """A sequence in one direction.

    Args:
        number: among the sequences.
        state: where its state begins: hidden twice, the cell, and what a GRU's reset gate left of the hidden state.
        width: elements of each.
    """

    number: Expr
    state: Expr
    width: int

    @property
    def cell(self) -> Expr:
        """Where its cell begins."""
        return self.state + 2 * self.width

    @property
    def reset(self) -> Expr:
        """Where what the reset gate left begins."""
        return self.state + 3 * self.width


class _Moment(NamedTuple):
    """A vector of units of a sequence, at a step.

    Args:
        sequence: whose.
        time: when its input comes.
        unit: the first.
        hidden: where they lie before the step.
    """

    sequence: _Sequence
    time: Expr
    unit: Expr
    hidden: Expr


class _SequencesWriter:
    """Writes the code of a task.

    Args:
        layer: what is computed.
        b: takes the statements.
        isa: the instruction set.
        memory: what the operands point to.
        which: image, first sequence and direction.
        rows: sequences.
    """

    def __init__(
        self,
        layer: RecurrentLayer,
        b: KernelBuilder,
        isa: Isa,
        memory: Mapping[str, Memory],
        which: tuple[Expr, Expr, Expr],
        rows: int,
    ) -> None:
        self.layer, self.b, self.isa, self.memory = layer, b, isa, memory
        self.image, self.first, self.direction = which
        self.rows, self.together = rows, layer.together(isa)
        self.width, self.lanes, self.block = layer.width(isa), isa.lanes, layer.block(isa)
        self.initial, self.results = dict(layer.initial), dict(layer.results)

    def write(self) -> None:
        """Begin with the initial states, take all steps, and keep the last states."""
        steps = self.layer.source.height
        with self.b.loop(self.rows, "row") as row:
            sequence = self._sequence(row)
            self._begin("hidden", sequence, sequence.state)
            self._begin("cell", sequence, sequence.cell)
        with self.b.loop(steps, "step") as step:
            before, after = (self.b.let((step + later) % 2 * self.width) for later in (0, 1))
            self._step(self._time(step), before, after)
        with self.b.loop(self.rows, "row") as row:
            sequence = self._sequence(row)
            self._end("hidden_end", sequence, sequence.state + steps % 2 * self.width)
            self._end("cell_end", sequence, sequence.cell)

    def _time(self, step: Expr) -> Expr:
        """When a step's input comes."""
        last, ways = self.layer.source.height - 1, self.layer.backwards
        if len(ways) == 1:
            return last - step if ways[0] else step
        return self.b.let(step + self.direction * (last - 2 * step))  # the second of two directions is the one back

    # -- states ---------------------------------------------------------------------------------------------------

    def _sequence(self, row: Expr) -> _Sequence:
        """One of the task's."""
        number = self.b.let(self.first + row)
        before = (self.image * len(self.layer.backwards) + self.direction) * self.layer.source.width
        return _Sequence(number, self.b.let((before + number) * self.layer.state_size(self.isa)), self.width)

    def _begin(self, name: str, sequence: _Sequence, target: Expr) -> None:
        """Zeros, or what is given: that may end with the caller's memory, behind which nobody reads."""
        for unit in range(0, self.width, self.lanes):
            self._put(target + unit, splat(0.0, self.lanes))
        if name in self.initial:
            for chunk in halvings(self.layer.units, self.lanes):
                with self.b.loop(chunk.pieces, "vector") as vector:
                    unit = chunk.start + vector * chunk.size
                    at = Position(self.image, self.direction, sequence.number, unit).within(self.initial[name])
                    value = self.b.load(self.memory[name], at, chunk.size)
                    self.b.store(self.memory["state"], target + unit, value, chunk.size)

    def _end(self, name: str, sequence: _Sequence, source: Expr) -> None:
        if name in self.results:
            for unit in range(0, self.width, self.lanes):
                at = Position(self.image, self.direction, sequence.number, unit).within(self.results[name])
                self.b.store(self.memory[name], at, self._get(source + unit), self.lanes)

    def _get(self, at: Expr) -> Expr:
        return self.b.load(self.memory["state"], at, self.lanes)

    def _put(self, at: Expr, value: Expr) -> None:
        self.b.store(self.memory["state"], at, value, self.lanes)

    # -- steps ----------------------------------------------------------------------------------------------------

    def _step(self, time: Expr, before: Expr, after: Expr) -> None:
        """All sequences, from one place of their hidden states into the other."""
        gates = list(range(self.layer.gates))
        if self.layer.resets_before:
            gates.remove(RESET)
            for block, sequences in self._tiles():
                sums = self._sums(before, block, sequences, [RESET])
                for place, sequence, unit in self._vectors(block, sequences):
                    self._reset(sums, place, _Moment(sequence, time, unit, sequence.state + before + unit))
        for block, sequences in self._tiles():
            sums = self._sums(before, block, sequences, gates)
            for place, sequence, unit in self._vectors(block, sequences):
                moment = _Moment(sequence, time, unit, sequence.state + before + unit)
                hidden = self.b.let(self._hidden(sums, place, moment))
                self._put(sequence.state + after + unit, hidden)
                self._record(moment, hidden)

    def _tiles(self) -> Iterator[tuple[Expr, list[_Sequence]]]:
        """Blocks of units, and of each the sequences that have sums at a time: the block's weights stay near."""
        with self.b.loop(self.width // self.block, "block") as block:
            for chunk in chunks(self.rows, self.together):
                with self.b.loop(chunk.pieces, "group") as group:
                    first = chunk.start + group * chunk.size
                    yield block, [self._sequence(first + row) for row in range(chunk.size)]

    def _vectors(self, block: Expr, sequences: Sequence[_Sequence]) -> Iterator[tuple[int, _Sequence, Expr]]:
        """Number, sequence and first unit of each vector of a tile."""
        vectors = self.block // self.lanes
        for row, sequence in enumerate(sequences):
            for vector in range(vectors):
                yield row * vectors + vector, sequence, self.b.let(block * self.block + vector * self.lanes)

    def _record(self, moment: _Moment, hidden: Expr) -> None:
        if "every" in self.results:
            image = self.image * self.layer.source.height + moment.time
            place = Position(image, self.direction, moment.sequence.number, moment.unit)
            self.b.store(self.memory["every"], place.within(self.results["every"]), hidden, self.lanes)

    def _hidden(self, sums: Memory, place: int, moment: _Moment) -> Expr:
        """The state of a vector of units after a step."""
        write = {"RNN": self._of_rnn, "GRU": self._of_gru, "LSTM": self._of_lstm}[self.layer.operator]
        return write(sums, place, moment)

    def _of_rnn(self, sums: Memory, place: int, moment: _Moment) -> Expr:
        return tanh(self.b, self._gate(sums, place, moment, 0), self.lanes)

    def _of_lstm(self, sums: Memory, place: int, moment: _Moment) -> Expr:
        b, lanes, at = self.b, self.lanes, moment.sequence.cell + moment.unit
        reads, shows, keeps = (
            b.let(sigmoid(b, b.let(self._gate(sums, place, moment, gate)), lanes)) for gate in range(3)
        )
        new = tanh(b, self._gate(sums, place, moment, 3), lanes)
        cell = b.let(keeps * self._get(at) + reads * new)
        self._put(at, cell)
        return shows * tanh(b, cell, lanes)

    def _of_gru(self, sums: Memory, place: int, moment: _Moment) -> Expr:
        b, lanes = self.b, self.lanes
        keeps = b.let(sigmoid(b, b.let(self._gate(sums, place, moment, 0)), lanes))
        bias = b.load(self.memory["bias"], self.direction * self.width + moment.unit, lanes)
        recurrent = b.load(sums, self._place(place, CANDIDATE), lanes) + bias
        if self.layer.resets_behind:
            recurrent = recurrent * sigmoid(b, b.let(self._gate(sums, place, moment, RESET)), lanes)
        new = b.let(tanh(b, b.let(self._projected(moment, CANDIDATE) + recurrent), lanes))
        return (splat(1.0, lanes) - keeps) * new + keeps * self._get(moment.hidden)

    def _reset(self, sums: Memory, place: int, moment: _Moment) -> None:
        """What a GRU's candidate reads of the state."""
        gate = self.b.let(self._gate(sums, place, moment, RESET))
        self._put(moment.sequence.reset + moment.unit, sigmoid(self.b, gate, self.lanes) * self._get(moment.hidden))

    def _gate(self, sums: Memory, place: int, moment: _Moment, gate: int) -> Expr:
        return self._projected(moment, gate) + self.b.load(sums, self._place(place, gate), self.lanes)

    def _projected(self, moment: _Moment, gate: int) -> Expr:
        channel = (self.direction * self.layer.gates + gate) * self.width + moment.unit
        at = Position(self.image, moment.time, moment.sequence.number, channel).within(self.layer.source)
        return self.b.load(self.memory["source"], at, self.lanes)

    # -- products -------------------------------------------------------------------------------------------------

    def _sums(self, before: Expr, block: Expr, sequences: Sequence[_Sequence], gates: Sequence[int]) -> Memory:
        """The states by the weights of some gates of a block of units."""
        b, every = self.b, self.layer.gates
        size = len(sequences) * every * self.block
        sums = b.registers(size, FLOAT)
        for at in range(0, size, self.lanes):
            b.store(sums, at, splat(0.0, self.lanes), self.lanes)
        blocks, inputs = self.width // self.block, self.layer.units
        start = b.let((self.direction * blocks + block) * (inputs * every * self.block))
        states = [(b.let(sequence.state + before), sequence.reset) for sequence in sequences]
        rounds = inputs // UNROLLED
        with b.loop(rounds, "round") as number:
            for place in range(UNROLLED):
                self._multiply(sums, states, start, number * UNROLLED + place, gates)
        for place in range(rounds * UNROLLED, inputs):
            self._multiply(sums, states, start, place, gates)
        return sums

    def _multiply(
        self, sums: Memory, states: Sequence[tuple[Expr, Expr]], start: Expr, unit: Expr, gates: Sequence[int]
    ) -> None:
        """Add the products of one unit of all states: hidden, or, for a GRU's candidate, what its reset gate left."""
        b, lanes, resets = self.b, self.lanes, self.layer.resets_before and CANDIDATE in gates
        hidden = [self._element(state + unit) for state, _ in states]
        left = [self._element(reset + unit) for _, reset in states] if resets else hidden
        vectors = self.block // lanes
        for gate in gates:
            for vector in range(vectors):
                at = (unit * self.layer.gates + gate) * self.block + vector * lanes
                weight = b.let(b.load(self.memory["weights"], start + at, lanes))
                for row, factor in enumerate(left if gate == CANDIDATE else hidden):
                    place = self._place(row * vectors + vector, gate)
                    b.store(sums, place, b.load(sums, place, lanes) + factor * weight, lanes)

    def _element(self, at: Expr) -> Expr:
        return self.b.let(splat(self.b.load(self.memory["state"], at), self.lanes))

    def _place(self, vector: int, gate: int) -> int:
        return (vector * self.layer.gates + gate) * self.lanes


def packed_recurrence(layer: RecurrentLayer, weights: np.ndarray, isa: Isa) -> np.ndarray:
    """Weights of the recurrence in the order in which they are read.

    Args:
        layer: the kernel.
        weights: ``[directions, gates · units, units]``.
        isa: the instruction set.

    Returns:
        Per direction and block of units ``[units that are read, gates, units of the block]``, flat.
    """
    directions, gates, width = len(layer.backwards), layer.gates, layer.width(isa)
    block = layer.block(isa)
    filled = np.zeros((directions, gates, width, layer.units), np.float32)
    filled[:, :, : layer.units] = weights.reshape(directions, gates, layer.units, layer.units)
    blocks = filled.reshape(directions, gates, width // block, block, layer.units)
    return np.ascontiguousarray(blocks.transpose(0, 2, 4, 1, 3)).ravel()
