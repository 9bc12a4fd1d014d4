"""Running one model in segments: up to a level, look, change what comes next, run on from there.

What later segments need of a level (its frontier) is kept, piece by piece, as long as it fits the memory budget; then
the next segment starts there. Where it does not fit, segments start at the last frontier that did, at worst at the
data: time for memory, never the reverse.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from graphpress.errors import ModelError
from graphpress.ir import DataType, Model, Shape, TensorType, is_constant, present_outputs
from graphpress.ir.encoding import FLOAT, override_output
from graphpress.ir.extract import extract
from graphpress.ir.opaque import hidden_values
from graphpress.ir.qdq import materialize_qdq
from graphpress.ir.values import reads
from graphpress.observation.pieces import Pieces
from graphpress.observation.waves import levels_of
from graphpress.runtime import Session, keep_float_layers

Arrays = dict[str, np.ndarray]


class Segment:
    """A part of a model, ready to run: encodings are written out, so that it computes what would be delivered.

    Args:
        model: not changed.
        example: arrays of the values that it starts from, by name.
        outputs: names of the values that it computes.
        threads: threads of the runtime.
    """

    def __init__(self, model: Model, example: Mapping[str, np.ndarray], outputs: Sequence[str], threads: int) -> None:
        self._given = [name for name in outputs if name in example]
        computed = [name for name in outputs if name not in example]
        self._session: Session | None = None
        self._inputs: list[str] = []
        if not computed:
            return
        part = extract(model, list(example), computed)
        for value in part.graph.inputs:
            array = example[value.name or ""]
            value.type = TensorType(DataType.from_numpy(array.dtype))
            value.shape = Shape([None] * array.ndim)
        for value in part.graph.outputs:
            override_output(value, FLOAT)
        materialize_qdq(part)
        keep_float_layers(part)
        self._session = _loaded(part, threads)
        self._inputs = [spec.name for spec in self._session.inputs]

    def run(self, arrays: Mapping[str, np.ndarray]) -> Arrays:
        """The outputs, from the values that it starts from; those that were given are handed through."""
        result = {name: arrays[name] for name in self._given}
        if self._session is not None:
            result.update(self._session.run({name: arrays[name] for name in self._inputs}))
        return result


def _loaded(part: Model, threads: int) -> Session:
    """A session. ONNX Runtime's rewrites break some graphs with inner values for outputs: those run as they are."""
    try:
        return Session(part, threads=threads)
    except ModelError:
        return Session(part, threads=threads, optimization="none")


class Replay:
    """Runs one model level by level over the same pieces of data.

    Args:
        model: may be changed between two calls of ``advance``, in and behind the layers whose wave is next.
        wave_of: wave of each layer by the name of its first result.
        data: what it runs on.
        threads: threads of the runtime.
        budget: bytes of frontiers that may be kept.
    """

    def __init__(
        self,
        model: Model,
        wave_of: Mapping[str, int],
        data: Pieces,
        *,
        threads: int = 1,
        budget: int,
    ) -> None:
        self._model, self._data, self._threads, self._budget = model, data, threads, budget
        self._levels = levels_of(model.graph, wave_of)
        self._inputs = [value.name or "" for value in model.graph.inputs]
        self._kept: list[Arrays] | None = None
        self._start: list[str] = self._inputs

    def level(self, name: str) -> int | None:
        """The level of a value, None where the graph has none of that name."""
        return self._levels.get(name)

    def advance(self, level: int, wanted: Sequence[str]) -> Iterator[Arrays]:
        """Piece by piece the wanted values; afterwards the next segment starts at this level.

        None of them is of a higher level, but for results of the layers whose wave is next: those are computed as the
        layers are now, and again when these are final. The pieces have to be taken to the end.
        """
        frontier = self._frontier(level)
        outputs = list(dict.fromkeys([*wanted, *frontier]))
        segment: Segment | None = None
        keeps = False
        kept = list[Arrays]() if self._kept is None else self._kept
        for index, piece in enumerate(self._data if self._kept is None else self._kept):
            arrays = {name: np.asarray(piece[name]) for name in self._start if name in piece}
            segment = segment or Segment(self._model, arrays, outputs, self._threads)
            results = segment.run(arrays)
            if not index:
                keeps = self._fits([results[name] for name in frontier])
            if keeps and self._kept is None:
                kept.append({name: results[name] for name in frontier})
            elif keeps:
                kept[index] = {name: results[name] for name in frontier}
            yield {name: results[name] for name in wanted}
        if keeps:
            self._kept, self._start = kept, frontier

    def _frontier(self, level: int) -> list[str]:
        """Values that are known at this level and read above it."""
        needed: dict[str, None] = {}
        hidden = {value.name for value in hidden_values(self._model)}
        for node in self._model.graph:
            results = present_outputs(node)
            if not results or self._levels.get(results[0].name or "", level + 1) <= level:
                continue
            for value in reads(node):
                name = value.name or ""
                if name not in hidden and not is_constant(value) and self._levels.get(name, level + 1) <= level:
                    needed[name] = None
        return list(needed)

    def _fits(self, arrays: Sequence[object]) -> bool:
        """Whether this much for each piece stays within the budget; what is no array cannot be kept at all."""
        if not all(isinstance(array, np.ndarray) and array.dtype.kind in "biuf" for array in arrays):
            return False
        size = sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))
        batch = max((len(array) for array in arrays if isinstance(array, np.ndarray) and array.ndim), default=1)
        return size / max(batch, 1) * self._data.samples <= self._budget
