"""The framework bridge: a model as something a training framework can differentiate, and back.

Nothing here imports a framework: ``load_bridge`` imports one when it is asked for. Third parties provide a bridge
through the entry point group ``graphpress.bridges``: any class with the methods of ``Bridge``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Protocol

from graphpress.backend import Availability
from graphpress.errors import ModelError, UsageError, did_you_mean
from graphpress.ir import Model, Value

__all__ = ["Availability", "Bridge", "BridgeError", "TrainableModel", "load_bridge"]

BRIDGE_GROUP = "graphpress.bridges"

OWN_BRIDGES = {"pytorch": "graphpress.torch_bridge.bridge:PytorchBridge"}


class BridgeError(ModelError):
    """The model cannot be carried into the framework, run there, or be written back."""


class TrainableModel(Protocol):
    """A model in a framework's terms."""

    @property
    def module(self) -> Any:
        """What computes: called with a mapping from input names to tensors, it returns outputs and taps by name."""
        ...

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The trainable parameters by the name of their initializer."""
        ...


class Bridge(Protocol):
    """The seam between the compiler and a training framework."""

    name: str

    def available(self) -> Availability:
        """Whether the framework is here, with the reason and the install command where not."""
        ...

    def to_framework(
        self, model: Model, *, taps: Sequence[str] = (), trainable: Callable[[Value], bool] | None = None
    ) -> TrainableModel:
        """The model as a differentiable module. The model is not changed, and may be changed afterwards.

        Args:
            model: what to carry over; encodings become fake quantization with straight-through gradients.
            taps: names of values that are returned beside the graph outputs.
            trainable: which float constants to train; None for every one that is a weight.

        Raises:
            BackendError: the framework is not installed.
            BridgeError: operators without a translation, each named; a tap that is no value of the graph.
        """
        ...

    def write_back(self, trained: TrainableModel, model: Model) -> int:
        """Write the parameters into the initializers of the same names, in place; encodings are kept and renewed.

        Returns:
            How many constants were written. Those that did not change are not.

        Raises:
            BridgeError: the model lacks an initializer of that name and shape, or a parameter is not finite. The
                model is untouched then.
        """
        ...


def load_bridge(name: str = "pytorch") -> Bridge:
    """An instance of the bridge of that name; whether it works here is its own to say.

    Raises:
        UsageError: there is none, or its package cannot be imported.
    """
    table = {point.name: point.value for point in sorted(entry_points(group=BRIDGE_GROUP), key=lambda one: one.name)}
    if clash := sorted(set(table) & set(OWN_BRIDGES)):
        raise UsageError(
            f"the name {clash[0]!r} is claimed by graphpress and by {table[clash[0]]}",
            where=f"entry points {BRIDGE_GROUP}",
            fix="uninstall that package",
        )
    table |= OWN_BRIDGES
    if name not in table:
        raise UsageError(f"unknown bridge {name!r}", where="bridge", fix=did_you_mean(name, table))
    module, _, attribute = table[name].partition(":")
    try:
        bridge: Bridge = getattr(import_module(module), attribute)()
    except Exception as error:  # third-party code
        raise UsageError(
            f"the bridge {name!r} cannot be loaded from {table[name]} ({type(error).__name__}: {error})",
            where=f"entry points {BRIDGE_GROUP}",
            fix="reinstall the package that provides it",
        ) from error
    return bridge
