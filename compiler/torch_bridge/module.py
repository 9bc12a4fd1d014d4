"""A model as a ``torch.nn.Module``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from graphpress.ir import Model, Value, constant
from graphpress.torch_bridge.errors import BridgeError
from graphpress.torch_bridge.program import execute
from graphpress.torch_bridge.tensors import to_tensor
from graphpress.torch_bridge.translate import translate


class GraphModule(nn.Module):
    """The main graph of a model: differentiable, with its weights as parameters under the names of initializers.

    It computes what the model infers: BatchNormalization takes its stored statistics, Dropout does nothing; ``train``
    and ``eval`` make no difference. What is read in an encoding is fake-quantized.

    Args:
        model: the model. It is only read, and only here.
        taps: names of values to return beside the graph outputs, as they are before any encoding.
        trains: which constants are parameters.

    Raises:
        BridgeError: nodes that have no translation; a tap that is no value of the graph.
    """

    def __init__(self, model: Model, taps: Sequence[str], trains: Callable[[Value], bool]) -> None:
        super().__init__()
        graph = translate(model, taps, trains)
        self._steps, self._size = graph.steps, graph.size
        self._inputs, self._results = dict(graph.inputs), dict(graph.outputs)
        self._defaults = {}
        for value in model.graph.inputs:
            if value.const_value is not None:
                self._defaults[value.name or ""] = key = f"default_{self._inputs[value.name or '']}"
                self.register_buffer(key, to_tensor(value.const_value.numpy()), persistent=False)
        self._plain: dict[int, np.ndarray] = {}
        self._held: list[tuple[int, dict[str, Any], str]] = []
        for slot, held in graph.constants.items():
            self._hold(slot, held)

    def _hold(self, slot: int, held: Value | np.ndarray) -> None:
        if isinstance(held, Value):
            array, name = constant(held), held.name or ""
            assert array is not None
            if name in self._parameters:
                raise BridgeError("two initializers have this name", where=name, fix="give each a name of its own")
            # register_parameter() takes no dots, which names of initializers are full of
            self._parameters[name] = nn.Parameter(to_tensor(array))
            self._held.append((slot, self._parameters, name))
        elif held.dtype.kind in "OSU":
            self._plain[slot] = held
        else:
            self.register_buffer(f"constant_{slot}", _tensor(held), persistent=False)
            self._held.append((slot, self._buffers, f"constant_{slot}"))

    def forward(self, feed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Graph outputs and taps by name, from the graph inputs by name.

        Raises:
            BridgeError: an input is missing, or a node fails on what it is given.
        """
        slots: list[Any] = [None] * self._size
        for name, slot in self._inputs.items():
            slots[slot] = feed[name] if name in feed else self._default(name)
        for slot, store, key in self._held:
            slots[slot] = store[key]
        for slot, array in self._plain.items():
            slots[slot] = array
        execute(self._steps, slots)
        return {name: slots[slot] for name, slot in self._results.items()}

    def _default(self, name: str) -> Tensor:
        if name not in self._defaults:
            raise BridgeError(
                f"the input {name!r} is missing", where="feed", fix=f"feed all of: {', '.join(sorted(self._inputs))}"
            )
        return self.get_buffer(self._defaults[name])


def _tensor(array: np.ndarray) -> Tensor:
    try:
        return to_tensor(array)
    except TypeError as error:
        raise BridgeError(
            f"PyTorch has no type for {array.dtype.name}", where="a constant", fix="leave training passes out"
        ) from error
