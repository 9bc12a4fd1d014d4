"""The layer-by-layer driver: walk the layers of a model in order, show what they read, let them be changed.

Layers are taken wave by wave (see ``graphpress.observation.waves``). Of every piece of data a layer is shown what the
model, with all layers before already changed, feeds it, and what a reference model (mostly the model as it was before)
computes in the same places. Then the layer is changed, and the walk goes on. Each model runs through the data
once in all, as long as what has to be kept between two waves fits the memory budget.

A method that works layer by layer is a ``LayerTask``; the walk is the same for all of them:

- GPTQ and SparseGPT: ``wants`` what the layer reads; ``see`` adds it to a Gram matrix (``GramObserver``); ``finish``
  rounds or drops one feature after the other and compensates by the rest.
- AdaRound, and least squares: wants what the layer reads and, of the reference, what it should compute; ``see`` keeps
  samples or moments of both; ``finish`` chooses roundings, or solves, and writes.
- Decompositions that look at the data (SVD on a whitened weight): as GPTQ; ``finish`` puts two layers in place of one,
  the last of which computes the same value.
- Bias correction: wants the layer's result as it is and of the reference; ``finish`` writes how their means differ.

Example: round every weight to a multiple of 1/4, and let the bias take what that shifts on average.

    >>> import numpy as np
    >>> from graphpress.analysis.linear import changeable_linear_op, write_bias
    >>> from graphpress.analysis.linear.rows import by_channel
    >>> from graphpress.ir import Editor, clone, label
    >>> from graphpress.models import build
    >>> from graphpress.observation import LayerWalk, Moments, Pieces, Wanted, waves_of
    >>> from graphpress.runtime import Session
    >>> class Coarse:
    ...     "One layer with few different weights."
    ...     def __init__(self, edit, node):
    ...         self.edit, self.op, self.moments = edit, changeable_linear_op(node), Moments(full=False)
    ...         weight = np.rint(self.op.stored_weight() * 4) / 4
    ...         edit.own_constant(node, self.op.weight_index, weight.astype(np.float32))
    ...     @property
    ...     def wants(self):
    ...         return Wanted(reference=(label(self.op.result),), result=True)
    ...     def see(self, piece):
    ...         now, before = piece.result, piece.reference[label(self.op.result)]
    ...         self.moments.add(by_channel(now, 1), by_channel(before, 1))
    ...     def finish(self):
    ...         shift = self.moments.target_mean - self.moments.mean
    ...         bias = self.op.bias_rows()
    ...         write_bias(self.edit, self.op, bias + shift.reshape(bias.shape))
    >>> original = build("resnet", depth=8, stem="cifar", width=4, image=8, classes=4)
    >>> model = clone(original)
    >>> feeds = [{"input": np.random.default_rng(0).normal(size=(8, 3, 8, 8)).astype(np.float32)}]
    >>> layers = [node for node in model.graph if node.op_type in ("Conv", "Gemm")]
    >>> walk = LayerWalk(model, waves_of(model.graph, layers), Pieces.of(model, feeds, 8), original)
    >>> walk.run(lambda node: Coarse(Editor(model), node))
    >>> before, after = (Session(each).run(feeds[0]).popitem()[1] for each in (original, model))
    >>> before.shape == after.shape, bool(np.allclose(before.mean(axis=0), after.mean(axis=0), atol=1e-5))
    (True, True)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Protocol

import numpy as np

from graphpress.errors import DataError
from graphpress.ir import Model, Node, label, weight_bytes
from graphpress.memory import give_back_memory
from graphpress.observation.pieces import Pieces
from graphpress.observation.replay import Arrays, Replay
from graphpress.progress import Progress, Silent
from graphpress.runtime import is_large

BUDGET = 1 << 30
"""Bytes that are kept between two waves, of both models together."""


@dataclass(frozen=True)
class Wanted:
    """What a layer is to be shown, by the names of values.

    Args:
        inputs: of the model that is changed; final before the layer is worked on, as what it reads is.
        reference: of the reference model, not behind the layer.
        result: what the layer computes as it is now, encodings included.
    """

    inputs: Sequence[str] = ()
    reference: Sequence[str] = ()
    result: bool = False


@dataclass(frozen=True)
class LayerPiece:
    """What a layer is shown of some samples: at least what it wants.

    Args:
        inputs: of the model that is changed, by name.
        reference: of the reference model, by name.
        result: what the layer computes as it is now; None unless wanted.
    """

    inputs: Mapping[str, np.ndarray] = field(default_factory=dict)
    reference: Mapping[str, np.ndarray] = field(default_factory=dict)
    result: np.ndarray | None = None


class LayerTask(Protocol):
    """What is done with one layer: it sees every piece of the data, then it is finished."""

    @property
    def wants(self) -> Wanted:
        """What ``see`` needs."""
        ...

    def see(self, piece: LayerPiece) -> None:
        """Take in one piece of the data; arrays must not be kept without a bound."""
        ...

    def finish(self) -> None:
        """Change the layer, or leave it; layers of the same wave are finished one after the other."""
        ...


class LayerWalk:
    """A walk through the layers of a model.

    Args:
        model: may be changed in a layer, and behind it, from when its task begins until the next wave does.
        waves: the layers in their order, see ``waves_of``.
        data: what both models run on.
        reference: where values have the same names; None to do without.
        threads: threads of the runtime.
        budget: bytes that may be kept between two waves. Where they do not suffice, the models run further.
    """

    def __init__(
        self,
        model: Model,
        waves: Sequence[Sequence[Node]],
        data: Pieces,
        reference: Model | None = None,
        *,
        threads: int = 1,
        budget: int = BUDGET,
    ) -> None:
        self._waves, self._is_large = waves, is_large(weight_bytes(model))
        self._wave_of = {node: wave for wave, nodes in enumerate(waves) for node in nodes}
        levels = {label(node.outputs[0]): wave for node, wave in self._wave_of.items()}
        self._model = Replay(model, levels, data, threads=threads, budget=budget // 2)
        self._reference = (
            None if reference is None else Replay(reference, levels, data, threads=threads, budget=budget // 2)
        )

    def can_show(self, node: Node, wanted: Wanted) -> bool:
        """Whether the values exist and are final when the layer is worked on."""
        wave = self._wave_of[node]
        levels = [(self._model.level(name), wave) for name in wanted.inputs]
        levels += [
            (None if self._reference is None else self._reference.level(name), wave + 1) for name in wanted.reference
        ]
        return all(level is not None and level <= most for level, most in levels)

    def run(self, begin: Callable[[Node], LayerTask], progress: Progress | None = None, title: str = "layers") -> None:
        """Walk through all layers.

        Args:
            begin: makes the task of a layer when its wave begins.
            progress: where to tell how far it is.
            title: what to tell there.

        Raises:
            DataError: the data changes from one reading to the next, or does not fit the model.
        """
        for wave in (progress or Silent()).track(range(len(self._waves)), title, len(self._waves)):
            tasks = {node: begin(node) for node in self._waves[wave]}
            for piece in self._pieces(wave, {node: task.wants for node, task in tasks.items()}):
                for node, task in tasks.items():
                    task.see(piece[node])
            for task in tasks.values():
                task.finish()
            if self._is_large:
                give_back_memory()

    def _pieces(self, wave: int, wanted: Mapping[Node, Wanted]) -> Iterator[dict[Node, LayerPiece]]:
        """Piece by piece what each layer of the wave is shown."""
        results = {node: label(node.outputs[0]) for node, want in wanted.items() if want.result}
        inputs = [name for want in wanted.values() for name in want.inputs]
        reference = [name for want in wanted.values() for name in want.reference]
        for now, before in self._both(wave, _distinct([*inputs, *results.values()]), _distinct(reference)):
            yield {node: LayerPiece(now, before, now.get(results.get(node, ""))) for node in wanted}

    def _both(self, wave: int, inputs: Sequence[str], reference: Sequence[str]) -> Iterator[tuple[Arrays, Arrays]]:
        """Piece by piece values of the model before this wave, or of its layers, and of the reference model behind."""
        shown = repeat(Arrays()) if self._reference is None else self._reference.advance(wave + 1, reference)
        for now in self._model.advance(wave, inputs):
            before = next(shown, None)
            if before is None:
                raise _unrepeatable("fewer")
            yield now, before
        for _ in shown if self._reference is not None else ():
            raise _unrepeatable("more")


def _distinct(names: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _unrepeatable(how: str) -> DataError:
    return DataError(f"gives {how} samples when it is read again", where="calibration", fix="make it repeatable")
